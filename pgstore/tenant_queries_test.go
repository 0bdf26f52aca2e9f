package pgstore_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/sinks"
	"github.com/riverline/tollgate/webhooks"
)

// asking is one organization that asks a store, and the other that it must not find.
type asking struct {
	*pgstore.Store
	a, b   uuid.UUID
	export uuid.UUID
	day    calendar.Day
}

// A tenantQuery is a method of the store that acts for one organization.
type tenantQuery struct {
	// read returns what a finds. Row-level security must change nothing about it.
	read func(context.Context, asking) (any, error)
	// write changes something of a's.
	write func(context.Context, asking) error
	// others asks, as a, for what is b's: there is no such thing.
	others func(context.Context, asking) error
}

// second makes a call's error that of a function.
func second[T any](_ T, err error) error { return err }

var aKey = meter.BatchKey{Identity: meter.Identity{7}, Fingerprint: meter.Fingerprint{7}}

// tenantReads and tenantWrites are all methods of the store that act for one organization: what belongs to an organization, an
// event, an endpoint or a reservation of it has the organization's ID in twoTenants.
var tenantReads = map[string]tenantQuery{
	"BilledPeriod": {
		read: func(ctx context.Context, s asking) (any, error) { return s.BilledPeriod(ctx, s.export, s.a) },
	},
	"CreditEntries": {
		read: func(ctx context.Context, s asking) (any, error) { return s.CreditEntries(ctx, s.a, uuid.Nil, 100) },
	},
	"Credits": {
		read: func(ctx context.Context, s asking) (any, error) { return s.Credits(ctx, s.a) },
	},
	"CurrentUsage": {
		read: func(ctx context.Context, s asking) (any, error) { return s.CurrentUsage(ctx, s.a, evaluations, today) },
	},
	"Endpoint": {
		read:   func(ctx context.Context, s asking) (any, error) { return s.Endpoint(ctx, s.a, s.a) },
		others: func(ctx context.Context, s asking) error { return second(s.Endpoint(ctx, s.a, s.b)) },
	},
	"KnownReports": {
		read: func(ctx context.Context, s asking) (any, error) {
			return s.KnownReports(ctx, s.a, []meter.Identity{digestOf("i")})
		},
	},
	"ListEndpoints": {
		read: func(ctx context.Context, s asking) (any, error) { return s.ListEndpoints(ctx, s.a) },
	},
	"ListEvents": {
		read: func(ctx context.Context, s asking) (any, error) { return s.ListEvents(ctx, s.a, "", uuid.Nil, 100) },
	},
	"ListKeys": {
		read: func(ctx context.Context, s asking) (any, error) { return s.ListKeys(ctx, &s.a) },
	},
	"ListWebhookDeliveries": {
		read: func(ctx context.Context, s asking) (any, error) {
			return s.ListWebhookDeliveries(ctx, s.a, s.a, uuid.Nil, 100)
		},
		others: func(ctx context.Context, s asking) error {
			return second(s.ListWebhookDeliveries(ctx, s.a, s.b, uuid.Nil, 100))
		},
	},
	"LoadOrganization": {
		read: func(ctx context.Context, s asking) (any, error) {
			found, err := s.LoadOrganization(ctx, s.a, today)
			found.ReadAt, found.Seen = time.Time{}, meter.Seen{}
			return found, err
		},
	},
	"OpenPeriod": {
		read: func(ctx context.Context, s asking) (any, error) {
			return s.OpenPeriod(ctx, s.a, calendar.PeriodOf(today.Start()), today.End(), plans.Default().Meters)
		},
	},
	"OrganizationStatements": {
		read: func(ctx context.Context, s asking) (any, error) { return s.OrganizationStatements(ctx, s.a, 100) },
	},
	"Organization": {
		read: func(ctx context.Context, s asking) (any, error) { return s.Organization(ctx, s.a) },
	},
	"Quarantine": {
		read: func(ctx context.Context, s asking) (any, error) { return s.Quarantine(ctx, "", s.a, uuid.Nil, 100) },
	},
	"Reservation": {
		read:   func(ctx context.Context, s asking) (any, error) { return s.Reservation(ctx, s.a, s.a) },
		others: func(ctx context.Context, s asking) error { return second(s.Reservation(ctx, s.a, s.b)) },
	},
	"Standing": {
		read: func(ctx context.Context, s asking) (any, error) { return s.Standing(ctx, s.a) },
	},
	"Statement": {
		read: func(ctx context.Context, s asking) (any, error) { return s.Statement(ctx, s.export, s.a) },
	},
	"UsageRange": {
		read: func(ctx context.Context, s asking) (any, error) { return s.UsageRange(ctx, s.a, today, today, "") },
	},
	"WebhookDelivery": {
		read:   func(ctx context.Context, s asking) (any, error) { return s.WebhookDelivery(ctx, s.a, s.a, s.a) },
		others: func(ctx context.Context, s asking) error { return second(s.WebhookDelivery(ctx, s.a, s.b, s.b)) },
	},
}

var tenantWrites = map[string]tenantQuery{
	"RecordRequest": {
		write: func(ctx context.Context, s asking) error {
			return s.RecordRequest(ctx, audit.Request{Route: "POST /x", Organization: s.a})
		},
	},
	"AdmitRedelivery": {
		write:  func(ctx context.Context, s asking) error { return s.AdmitRedelivery(ctx, s.a, s.a) },
		others: func(ctx context.Context, s asking) error { return s.AdmitRedelivery(ctx, s.a, s.b) },
	},
	"BeginUsageKey": {
		write: func(ctx context.Context, s asking) error { return second(s.BeginUsageKey(ctx, s.a, aKey)) },
	},
	"ChangeContract": {
		write: func(ctx context.Context, s asking) error {
			return second(s.ChangeContract(ctx, s.a, accounts.Request{Action: accounts.ChangePlan, Plan: "pro", ByTenant: true}))
		},
	},
	"CommitReservation": {
		write:  func(ctx context.Context, s asking) error { return second(s.CommitReservation(ctx, s.a, s.a, nil)) },
		others: func(ctx context.Context, s asking) error { return second(s.CommitReservation(ctx, s.a, s.b, nil)) },
	},
	"CreateEndpoint": {
		write: func(ctx context.Context, s asking) error {
			return second(s.CreateEndpoint(ctx, webhooks.Endpoint{Organization: s.a, URL: "https://example.com/", Secrets: webhooks.Secrets{Current: "whsec_AA=="}}))
		},
	},
	"DeleteEndpoint": {
		write:  func(ctx context.Context, s asking) error { return s.DeleteEndpoint(ctx, s.a, s.a) },
		others: func(ctx context.Context, s asking) error { return s.DeleteEndpoint(ctx, s.a, s.b) },
	},
	"EndUsageKey": {
		write: func(ctx context.Context, s asking) error { return s.EndUsageKey(ctx, s.a, aKey, []byte("x")) },
	},
	"HoldReservation": {
		write: func(ctx context.Context, s asking) error { return second(s.HoldReservation(ctx, draft(s.a, 3), 1)) },
	},
	"IncrementUsage": {
		write: func(ctx context.Context, s asking) error { return s.IncrementUsage(ctx, s.a, evaluations, s.day, 1) },
	},
	"MarkStatementDelivered": {
		write: func(ctx context.Context, s asking) error {
			return s.MarkStatementDelivered(ctx, s.export, s.a, "elsewhere", "in_1")
		},
	},
	"PutCustomer": {
		write: func(ctx context.Context, s asking) error {
			return s.PutCustomer(ctx, sinks.Customer{Organization: s.a, Sink: sinks.Stripe, ExternalID: "cus_other"})
		},
	},
	"ReleaseReservation": {
		// It was committed above.
		others: func(ctx context.Context, s asking) error { return second(s.ReleaseReservation(ctx, s.a, s.b)) },
	},
	"RotateEndpoint": {
		others: func(ctx context.Context, s asking) error {
			return second(s.RotateEndpoint(ctx, s.a, s.b, "whsec_BB==", time.Now()))
		},
	},
	"UpdateEndpoint": {
		others: func(ctx context.Context, s asking) error {
			return second(s.UpdateEndpoint(ctx, s.a, s.b, webhooks.Change{}, func(webhooks.Endpoint) error { return nil }))
		},
	},
	"UpdatePeak": {
		write: func(ctx context.Context, s asking) error { return s.UpdatePeak(ctx, s.a, entities, s.day, 3) },
	},
	"UpdateSnapshot": {
		write: func(ctx context.Context, s asking) error {
			return s.UpdateSnapshot(ctx, s.a, storage, s.day, 3, s.day.Start())
		},
	},
}

// No query of a tenant's leans on row-level security alone: asked as the owner of the tables, whom it doesn't bind, each
// finds what it finds under it, and nothing of the other.
func TestTenantQueriesHoldWithoutRowSecurity(t *testing.T) {
	t.Parallel()
	f, a, b := twoTenants(t)
	var export uuid.UUID
	require.NoError(t, f.owner.QueryRow(t.Context(), `SELECT id FROM exports`).Scan(&export))
	bound := asking{Store: f.Store, a: a, b: b, export: export, day: today + 1}
	free := bound
	free.Store = f.open(pgstore.Config{URL: f.db.URL})
	f.exec(`UPDATE statements SET document = '{"currency": "USD"}', number = left(md5(organization_id::text), 8), issued = true`)

	for _, queries := range []map[string]tenantQuery{tenantReads, tenantWrites} {
		for _, name := range sorted(queries) {
			q := queries[name]
			before := f.ofOthers(a)
			if q.read != nil {
				expected, err := q.read(t.Context(), bound)
				require.NoError(t, err, name)
				found, err := q.read(t.Context(), free)
				require.NoError(t, err, name)
				require.Equal(t, expected, found, name)
				require.NotEmpty(t, found, name)
				require.NotContains(t, fmt.Sprintf("%+v", found), b.String(), name)
			}
			if q.write != nil {
				require.NoError(t, q.write(t.Context(), free), name)
			}
			if q.others != nil {
				require.ErrorIs(t, q.others(t.Context(), free), fault.ErrNotFound, name)
			}
			require.Equal(t, before, f.ofOthers(a), "%s: rows of the other", name)
		}
	}
}

// ofOthers returns all rows that are not of an organization.
func (f *fixture) ofOthers(organization uuid.UUID) map[string]string {
	f.t.Helper()
	found := map[string]string{}
	for table, column := range organizationColumn {
		var rows string
		require.NoError(f.t, f.owner.QueryRow(f.t.Context(), `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM `+table+` t WHERE `+
			column+` IS DISTINCT FROM $1`, organization).Scan(&rows), table)
		found[table] = rows
	}
	return found
}

// Whatever acts for one organization is among the queries above.
func TestEveryTenantQueryIsHeldWithoutRowSecurity(t *testing.T) {
	t.Parallel()
	var found []string
	for _, name := range storeMethods(t) {
		if forOneOrganization(name) {
			found = append(found, name.Name.Name)
		}
	}
	slices.Sort(found)
	require.Equal(t, slices.Sorted(slices.Values(append(sorted(tenantReads), sorted(tenantWrites)...))), found)
}

// storeMethods returns the exported methods of the store, out of the source.
func storeMethods(t *testing.T) (methods []*ast.FuncDecl) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || !f.Name.IsExported() {
				continue
			}
			if of, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok && of.X.(*ast.Ident).Name == "Store" {
				methods = append(methods, f)
			}
		}
	}
	return methods
}

// forOneOrganization reports whether a method takes an organization, or opens a transaction of one.
func forOneOrganization(f *ast.FuncDecl) bool {
	one := false
	for _, p := range f.Type.Params.List {
		for _, name := range p.Names {
			one = one || name.Name == "organization"
		}
		if of, ok := p.Type.(*ast.SelectorExpr); ok && of.Sel.Name == "StoredReservation" {
			one = true
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.SelectorExpr); ok && (strings.HasPrefix(call.Sel.Name, "asOrganization") || call.Sel.Name == "asOwner") {
			one = true
		}
		return true
	})
	return one
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// digestOf is an identity as twoTenants makes it.
func digestOf(s string) (i meter.Identity) {
	digest := sha256.Sum256([]byte(s))
	copy(i[:], digest[:])
	return i
}
