package billing

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/plans"
)

// Ratable is one organization with all that its statement is made from, as it was
// frozen. The plans of its segments have a key and a version only: Rate looks them up.
type Ratable struct {
	OrganizationPeriod OrganizationPeriod
	// Closed are closed periods whose usage has changed since, oldest first.
	Closed []ClosedPeriod
	// Credits are the organization's grants with what remained when its usage was frozen.
	Credits []CreditGrant
}

// ClosedPeriod is a closed period with the usage that is known now.
type ClosedPeriod struct {
	OrganizationPeriod OrganizationPeriod
	// Billed is what was billed for it: its statement, and the corrections since then.
	Billed []Billed
}

// Rate makes the statement, with corrections and then credits. It fails with [ErrCannotRate].
func Rate(r Ratable, catalog *plans.Catalog) (Statement, error) {
	if err := r.OrganizationPeriod.resolve(catalog); err != nil {
		return Statement{}, err
	}
	s, err := NewStatement(r.OrganizationPeriod)
	if err != nil {
		return Statement{}, err
	}
	for _, closed := range r.Closed {
		if err := closed.OrganizationPeriod.resolve(catalog); err != nil {
			return Statement{}, err
		}
		again, err := NewStatement(closed.OrganizationPeriod)
		if err != nil {
			return Statement{}, fmt.Errorf("correction of %s: %w", closed.OrganizationPeriod.Period, err)
		}
		if again.Currency != s.Currency {
			return Statement{}, fmt.Errorf("%w: %s was billed in %s, and is now to be corrected in %s", ErrCannotRate, again.Period, again.Currency, s.Currency)
		}
		s.Correct(again, closed.Billed)
	}
	s.PayFrom(r.Credits, r.OrganizationPeriod.Cut)
	return s, nil
}

// RatedPage is what came of rating a page of organizations.
type RatedPage struct {
	// Organizations are all that were tried.
	Organizations []uuid.UUID
	Statements    []Statement
	// Parked are those that couldn't be rated; of them Organization and Reason are kept.
	Parked []ParkedOrganization
}

// resolve puts the plans of a catalog in place of their names.
func (o *OrganizationPeriod) resolve(catalog *plans.Catalog) error {
	o.Segments = slices.Clone(o.Segments)
	for i, s := range o.Segments {
		if s.Plan.Key == "" {
			continue
		}
		found, ok := catalog.PlanVersion(s.Plan.Key, s.Plan.Version)
		if !ok {
			return fmt.Errorf("%w: plan %q version %d is not in the catalog", ErrCannotRate, s.Plan.Key, s.Plan.Version)
		}
		o.Segments[i].Plan = found
	}
	return nil
}

// Under returns the period with the plans of another catalog in place of its own: of
// each plan the version that is in force there. A plan that isn't there stays as it was.
// It is how a catalog is tried on past usage. Where a new version of one plan split the
// period, nothing does: the other catalog has one version for all of it.
func (o OrganizationPeriod) Under(catalog *plans.Catalog) OrganizationPeriod {
	o.Segments = slices.Clone(o.Segments)
	for i, s := range o.Segments {
		if p, named := catalog.Plan(s.Plan.Key); named {
			o.Segments[i].Plan = plans.Plan{Key: p.Key, Version: p.Version}
		}
	}
	return o
}

// CatalogDigest returns the SHA-256 of a catalog's plans in lower-case hexadecimal: two
// exports whose catalogs, restricted to the plan versions that they rate by, have the same
// digest had the same prices.
func CatalogDigest(catalog *plans.Catalog) (string, error) {
	document, err := json.Marshal(catalog.Plans)
	if err != nil {
		return "", fmt.Errorf("digest the catalog: %w", err)
	}
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:]), nil
}
