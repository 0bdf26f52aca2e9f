package pgstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// builtIn is what counts where the tables have no row (C2), unless the installation has
// a catalog of its own.
var builtIn = plans.Default()

// Catalog returns the catalog in force. Where the installation has a catalog of its own,
// that is what the tables hold, and nothing else. Otherwise it is the published one over
// the built-in one: the meters of both; of a plan that is published the published versions,
// of another the built-in ones; and where a published version has no limit for a meter, the
// built-in plan's.
func (s *Store) Catalog(ctx context.Context) (*plans.Catalog, error) {
	catalog, _, err := s.CatalogSeen(ctx)
	return catalog, err
}

// CatalogSeen is [Store.Catalog] that says which changes are in it.
func (s *Store) CatalogSeen(ctx context.Context) (catalog *plans.Catalog, seen meter.Seen, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	err = s.asPlatformSnapshot(ctx, func(ctx context.Context, tx scoped) error {
		text, err := tx.Seen(ctx)
		if err != nil {
			return err
		}
		if seen, err = parseSeen(text); err != nil {
			return err
		}
		catalog, err = readCatalog(ctx, tx)
		return err
	})
	return catalog, seen, wrap(err, "read the catalog")
}

// PlanLimits returns one entitlement for each meter of the catalog, in its order,
// under the version of the plan that is in force. A plan that doesn't exist has none.
func (s *Store) PlanLimits(ctx context.Context, plan string) ([]plans.Entitlement, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var limits []plans.Entitlement
	err := s.asPlatformSnapshot(ctx, func(ctx context.Context, tx scoped) error {
		catalog, err := readCatalog(ctx, tx)
		if err != nil {
			return err
		}
		p, ok := catalog.Plan(plan)
		if !ok {
			return nil
		}
		for _, m := range catalog.Meters {
			limits = append(limits, p.Entitlement(m.Key))
		}
		return nil
	})
	return limits, wrap(err, "read the limits of plan %s", plan)
}

func readCatalog(ctx context.Context, tx scoped) (*plans.Catalog, error) {
	published, own, err := readPublished(ctx, tx)
	if err != nil || own {
		return published, err
	}
	base := &plans.Catalog{Meters: builtIn.Meters, DefaultPlan: builtIn.DefaultPlan}
	for _, p := range builtIn.Plans {
		if _, ok := published.Plan(p.Key); !ok {
			base.Plans = append(base.Plans, p)
		}
	}
	for i := range published.Plans {
		published.Plans[i] = withBuiltIn(published.Plans[i])
	}
	return base.Overlay(published), nil
}

// withBuiltIn adds the built-in plan's limits of the meters that a plan doesn't name.
func withBuiltIn(p plans.Plan) plans.Plan {
	fallback, ok := builtIn.Plan(p.Key)
	if !ok {
		return p
	}
	for _, e := range fallback.Entitlements {
		if !names(p, e.Meter) {
			p.Entitlements = append(p.Entitlements, fallback.Entitlement(e.Meter))
		}
	}
	return p
}

func names(p plans.Plan, meter string) bool {
	return slices.ContainsFunc(p.Entitlements, func(e plans.Entitlement) bool { return e.Meter == meter })
}

// readPublished returns what the tables hold, and nothing else, and whether that is a
// catalog of the installation's own.
func readPublished(ctx context.Context, tx scoped) (catalog *plans.Catalog, own bool, err error) {
	catalog = &plans.Catalog{}
	settings, err := tx.CatalogSettings(ctx)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, false, err
	}
	if settings.DefaultPlan != nil {
		catalog.DefaultPlan = *settings.DefaultPlan
	}
	if err := readPlans(ctx, tx, catalog); err != nil {
		return nil, false, err
	}
	return catalog, settings.Own, nil
}

// readPlans reads the meters and the plan versions.
func readPlans(ctx context.Context, tx scoped, catalog *plans.Catalog) error {
	meters, err := tx.Meters(ctx)
	if err != nil {
		return err
	}
	for _, m := range meters {
		catalog.Meters = append(catalog.Meters, plans.Meter{
			Key: m.Key, Name: m.Name, Aggregation: plans.Aggregation(m.Aggregation), Unit: m.Unit,
		})
	}
	rows, err := tx.Plans(ctx)
	if err != nil {
		return err
	}
	type version struct {
		key    string
		number int64
	}
	places := map[version]int{}
	for i, p := range rows {
		places[version{p.Key, p.Version}] = i
		var books []plans.PriceBook
		if err := json.Unmarshal(p.PriceBooks, &books); err != nil {
			return fmt.Errorf("read the prices of plan %s version %d: %w", p.Key, p.Version, err)
		}
		if len(books) == 0 {
			books = nil
		}
		catalog.Plans = append(catalog.Plans, plans.Plan{
			Key:         p.Key,
			Version:     int(p.Version),
			Name:        p.Name,
			SelfService: p.SelfService,
			Rank:        int(p.Rank),
			RateLimit:   plans.RateLimit{RequestsPerSecond: int(p.RequestsPerSecond), Burst: int(p.Burst)},
			PriceBooks:  books,
		})
	}
	limits, err := tx.PlanLimits(ctx)
	if err != nil {
		return err
	}
	for _, l := range limits {
		place, known := places[version{l.PlanKey, l.PlanVersion}]
		if !known {
			// The version was published since the plans were read.
			continue
		}
		p := &catalog.Plans[place]
		e := plans.Entitlement{Meter: l.Meter, Mode: plans.Mode(l.Mode), Window: calendar.WindowKind(l.LimitWindow)}
		if l.Max != nil {
			e.Max = *l.Max
		}
		p.Entitlements = append(p.Entitlements, e)
	}
	return nil
}

// PublishCatalog makes a catalog the installation's own: nothing of the built-in one
// exists beside it. It adds the catalog's new meters and plan versions to the tables; what
// is there already stays, also what the catalog leaves out, since usage and statements
// refer to it. A meter's name and unit, and the default plan, follow the catalog; new meters
// come last. It publishes all or nothing: a version with other content than the published
// one is [plans.ErrVersionPublished], a meter with another aggregation
// [plans.ErrMeterPublished], a broken rule [plans.ErrInvalidCatalog]. With
// Config.PlansTakeTwo, a version that is new where there are plans is [plans.ErrTakesTwo].
func (s *Store) PublishCatalog(ctx context.Context, catalog *plans.Catalog) error {
	err := s.publishing(ctx, func(ctx context.Context, tx scoped, published *plans.Catalog, own bool) error {
		if err := catalog.Validate(); err != nil {
			return err
		}
		if s.plansTakeTwo {
			if err := published.CheckNothingNew(catalog); err != nil {
				return err
			}
		}
		err := publishAll(ctx, tx, published, catalog, true)
		if errors.Is(err, plans.ErrVersionPublished) && !own {
			err = fmt.Errorf("%w; the built-in catalog was published here before: raise the version, or begin with a new database", err)
		}
		return err
	})
	return wrap(err, "publish the catalog")
}

// PublishDefaultCatalog publishes the built-in catalog, and reports whether it did: where
// the installation has a catalog of its own, that one counts, and nothing is published.
func (s *Store) PublishDefaultCatalog(ctx context.Context) (bool, error) {
	counts := false
	err := s.publishing(ctx, func(ctx context.Context, tx scoped, published *plans.Catalog, own bool) error {
		if counts = !own; own || s.plansTakeTwo && len(published.Plans) > 0 {
			return nil
		}
		return publishAll(ctx, tx, published, builtIn, false)
	})
	return counts && err == nil, wrap(err, "publish the built-in catalog")
}

// publishing calls fn with what the tables hold; publishers wait for each other.
func (s *Store) publishing(ctx context.Context, fn func(ctx context.Context, tx scoped, published *plans.Catalog, own bool) error) error {
	return s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := tx.LockCatalog(ctx); err != nil {
			return err
		}
		published, own, err := readPublished(ctx, tx)
		if err != nil {
			return err
		}
		return fn(ctx, tx, published, own)
	})
}

func publishAll(ctx context.Context, tx scoped, published, catalog *plans.Catalog, own bool) error {
	if err := publishMeters(ctx, tx, published, catalog.Meters); err != nil {
		return err
	}
	for _, p := range catalog.Plans {
		if err := publishPlan(ctx, tx, published, p); err != nil {
			return err
		}
	}
	return tx.PutCatalogSettings(ctx, own, optionalText(catalog.DefaultPlan))
}

// PublishPlans publishes each plan as the version after the plan's highest, whatever its Version
// says, all or none, and returns them in their order as they are kept: with an entitlement for each
// meter. A broken rule is [plans.ErrInvalidCatalog].
func (s *Store) PublishPlans(ctx context.Context, list ...plans.Plan) ([]plans.Published, error) {
	kept := make([]plans.Published, len(list))
	err := s.publishing(ctx, func(ctx context.Context, tx scoped, published *plans.Catalog, _ bool) error {
		transaction, err := thisTransaction(ctx, tx)
		if err != nil {
			return err
		}
		for i, p := range list {
			next, err := publishNext(ctx, tx, published, p)
			if err != nil {
				return fmt.Errorf("plan %s: %w", p.Key, err)
			}
			kept[i] = plans.Published{Plan: next, Transaction: transaction}
		}
		return nil
	})
	return kept, wrap(err, "publish %d plans", len(list))
}

// publishNext publishes a plan as the version after the plan's highest.
func publishNext(ctx context.Context, tx scoped, published *plans.Catalog, p plans.Plan) (plans.Plan, error) {
	catalog, err := readCatalog(ctx, tx)
	if err != nil {
		return plans.Plan{}, err
	}
	highest, _ := catalog.Plan(p.Key)
	p.Version = highest.Version + 1
	if err := catalog.ValidatePlan(p); err != nil {
		return plans.Plan{}, err
	}
	// A built-in meter may be missing from the tables: limits refer to it.
	if err := publishMeters(ctx, tx, published, catalog.Meters); err != nil {
		return plans.Plan{}, err
	}
	if err := publishPlan(ctx, tx, published, p); err != nil {
		return plans.Plan{}, err
	}
	return complete(p, published.Meters), nil
}

// publishMeters brings the meters into the tables and into published.
func publishMeters(ctx context.Context, tx scoped, published *plans.Catalog, meters []plans.Meter) error {
	for _, m := range meters {
		known, _, ok := published.Meter(m.Key)
		switch {
		case !ok:
			params := db.InsertMeterParams{Key: m.Key, Name: m.Name, Aggregation: string(m.Aggregation), Unit: m.Unit}
			if err := tx.InsertMeter(ctx, params); err != nil {
				return fmt.Errorf("meter %s: %w", m.Key, err)
			}
			published.Meters = append(published.Meters, m)
		case known.Aggregation != m.Aggregation:
			return fmt.Errorf("meter %s: %w: %s, not %s", m.Key, plans.ErrMeterPublished, known.Aggregation, m.Aggregation)
		case known != m:
			if err := tx.RenameMeter(ctx, m.Key, m.Name, m.Unit); err != nil {
				return fmt.Errorf("meter %s: %w", m.Key, err)
			}
		}
	}
	return nil
}

// publishPlan brings one version into the tables unless it is there.
func publishPlan(ctx context.Context, tx scoped, published *plans.Catalog, p plans.Plan) error {
	p = complete(p, published.Meters)
	for _, known := range published.Plans {
		if known.Key != p.Key || known.Version != p.Version {
			continue
		}
		if !same(known, p, published.Meters) {
			return fmt.Errorf("plan %s version %d: %w", p.Key, p.Version, plans.ErrVersionPublished)
		}
		return nil
	}
	if err := checkNewPriceBooks(p); err != nil {
		return err
	}
	books, err := json.Marshal(append([]plans.PriceBook{}, p.PriceBooks...))
	if err != nil {
		return fmt.Errorf("write the prices of plan %s version %d: %w", p.Key, p.Version, err)
	}
	err = tx.InsertPlan(ctx, db.InsertPlanParams{
		Key:               p.Key,
		PriceBooks:        books,
		Version:           int64(p.Version),
		Name:              p.Name,
		RequestsPerSecond: int64(p.RateLimit.RequestsPerSecond),
		Burst:             int64(p.RateLimit.Burst),
		SelfService:       p.SelfService,
		Rank:              int64(p.Rank),
	})
	if err != nil {
		return fmt.Errorf("plan %s version %d: %w", p.Key, p.Version, err)
	}
	for _, e := range p.Entitlements {
		limit := db.InsertPlanLimitParams{
			PlanKey:     p.Key,
			PlanVersion: int64(p.Version),
			Meter:       e.Meter,
			Mode:        string(e.Mode),
			LimitWindow: string(e.Window),
		}
		if e.Mode != plans.Unlimited {
			limit.Max = &e.Max
		}
		if err := tx.InsertPlanLimit(ctx, limit); err != nil {
			return fmt.Errorf("plan %s version %d, meter %s: %w", p.Key, p.Version, e.Meter, err)
		}
	}
	return nil
}

// complete returns the plan with an entitlement for each meter, in their order: a
// limit that a version leaves out on purpose must not be taken for a missing row.
func complete(p plans.Plan, meters []plans.Meter) plans.Plan {
	all := make([]plans.Entitlement, len(meters))
	for i, m := range meters {
		all[i] = p.Entitlement(m.Key)
	}
	p.Entitlements = all
	return p
}

// same compares what two versions say, about every meter. A published version may
// be older than a meter: of that it says what a plan says that doesn't name it.
func same(a, b plans.Plan, meters []plans.Meter) bool {
	booksOfA, errA := json.Marshal(append([]plans.PriceBook{}, a.PriceBooks...))
	booksOfB, errB := json.Marshal(append([]plans.PriceBook{}, b.PriceBooks...))
	return errors.Join(errA, errB) == nil && bytes.Equal(booksOfA, booksOfB) && a.Name == b.Name && a.RateLimit == b.RateLimit &&
		a.SelfService == b.SelfService && a.Rank == b.Rank &&
		slices.Equal(complete(a, meters).Entitlements, complete(b, meters).Entitlements)
}
