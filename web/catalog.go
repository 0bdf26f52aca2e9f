package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/gate"
)

// catalogPage lists the plans in force.
type catalogPage struct{ Catalog gen.Catalog }

func (v *visit) catalog() error {
	var p catalogPage
	if err := v.get(&p.Catalog, "/plans"); err != nil {
		return err
	}
	return v.page("plans", p)
}

// planVersionsPage shows what the versions of a plan differ in, and publishes another one.
type planVersionsPage struct {
	Key      string
	Versions []gen.Plan
	// From and To are the versions that are compared; Changes is what differs.
	From, To int
	Changes  []change
	// Document is the plan as it is put, to be changed.
	Document string
	// Base is the version that it was begun with.
	Base    int
	Refusal string
	// Check is what the document changes; nil until it was checked.
	Check *planCheck
}

// planCheck is what a document would change.
type planCheck struct {
	Changes []change
	// Period is the month that was rated under it; Note says why there is none.
	Period, Note string
	// Organizations are those whose amount differs, the largest difference first, shownDifferences at most.
	Organizations []billing.DryRunOrganization
	Totals        billing.DryRunTotals
	// More says that not all organizations were looked at.
	More bool
}

const (
	shownDifferences = 100
	// checkedPages is how many pages of organizations a check rates, of checkedPage each.
	checkedPages = 10
	checkedPage  = 500
)

// newest is the version in force.
func (p planVersionsPage) newest() gen.Plan { return p.Versions[0] }

func (v *visit) planVersionsPage() (planVersionsPage, error) {
	p := planVersionsPage{Key: v.r.PathValue("key")}
	var found gen.PlanVersions
	if err := v.get(&found, "/plans/"+p.Key+"/versions"); err != nil {
		return p, err
	}
	p.Versions = found.Versions
	document, err := documentOf(p.newest())
	p.Document, p.Base = string(document), p.newest().Version
	return p, err
}

func (v *visit) planVersions() error {
	p, err := v.planVersionsPage()
	if err != nil {
		return err
	}
	p.To = p.newest().Version
	p.From = p.To - 1
	query := v.r.URL.Query()
	for name, into := range map[string]*int{"from": &p.From, "to": &p.To} {
		if n, err := strconv.Atoi(query.Get(name)); err == nil {
			*into = n
		}
	}
	before, _ := p.version(p.From)
	after, ok := p.version(p.To)
	if !ok {
		return notFound(fmt.Sprintf("version %d of plan %s", p.To, p.Key))
	}
	if p.Changes, err = changesOf(before, after); err != nil {
		return err
	}
	return v.page("plan_versions", p)
}

// version is the document of a version; empty where there is none.
func (p planVersionsPage) version(n int) (json.RawMessage, bool) {
	for _, one := range p.Versions {
		if one.Version == n {
			document, err := documentOf(one)
			return document, err == nil
		}
	}
	return nil, false
}

// putOf is a plan as it is put.
func putOf(p gen.Plan) gen.PlanPut {
	put := gen.PlanPut{Key: p.Key, Name: p.Name, SelfService: &p.SelfService, Rank: &p.Rank, PriceBooks: &p.PriceBooks, Entitlements: []gen.EntitlementPut{}}
	if p.RateLimit.RequestsPerSecond > 0 {
		put.RateLimit = &p.RateLimit
	}
	for _, e := range p.Entitlements {
		one := gen.EntitlementPut{Meter: e.Meter, Mode: e.Mode, Max: e.Max}
		if e.Window != "" && e.Max != nil {
			one.Window = &e.Window
		}
		put.Entitlements = append(put.Entitlements, one)
	}
	return put
}

// documentOf writes a plan as it is put.
func documentOf(p gen.Plan) (json.RawMessage, error) {
	document, err := json.MarshalIndent(putOf(p), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write a plan: %w", err)
	}
	return document, nil
}

// putPlan checks a document, and publishes one that was checked as it is.
func (v *visit) putPlan() error {
	p, err := v.planVersionsPage()
	if err != nil {
		return err
	}
	before := json.RawMessage(p.Document)
	// A browser ends lines with both marks.
	p.Document = strings.ReplaceAll(v.r.PostFormValue("document"), "\r\n", "\n")
	refuse := func(status int, says string) error {
		p.Refusal = says
		return v.show(status, "plan_versions", p)
	}
	if began, err := strconv.Atoi(v.r.PostFormValue("version")); err == nil && began != p.Base {
		newest := p.Base
		p.Base = began
		return refuse(http.StatusConflict, fmt.Sprintf("Version %d was published meanwhile; this began with version %d, and would take its changes back. Note what you changed, and begin anew.", newest, began))
	}
	var wanted gen.PlanPut
	decoder := json.NewDecoder(bytes.NewReader([]byte(p.Document)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wanted); err != nil {
		return refuse(http.StatusBadRequest, "This is no plan: "+err.Error()+".")
	}
	if wanted.Key != p.Key {
		return refuse(http.StatusBadRequest, "The key must stay "+p.Key+": another key is another plan.")
	}
	if v.r.PostFormValue("do") == "publish" {
		if p.Checked() != v.r.PostFormValue("checked") {
			return refuse(http.StatusConflict, "It was changed after the check. Check it again.")
		}
		err := v.send("PUT", "/plans", wanted, nil)
		return v.after(err, "/plans/"+p.Key+"?done=published", func(refused *gate.Problem) error { return refuse(refused.Status, refused.Message) })
	}
	check, err := v.checkPlan(before, wanted, p.newest())
	if refused, ok := refusal(err); ok {
		return refuse(refused.Status, refused.Message)
	}
	if err != nil {
		return err
	}
	p.Check = &check
	return v.page("plan_versions", p)
}

// Checked is what says that a document is the one that was checked.
func (p planVersionsPage) Checked() string {
	sum := sha256.Sum256([]byte(p.Document))
	return hex.EncodeToString(sum[:])
}

// checkPlan rates last month under a document.
func (v *visit) checkPlan(before json.RawMessage, wanted gen.PlanPut, newest gen.Plan) (planCheck, error) {
	out := planCheck{Period: calendar.PeriodOf(v.now).Previous().String()}
	proposed := proposedOf(wanted, newest.Version+1, newest.PriceBooks)
	after, err := json.Marshal(wanted)
	if err != nil {
		return out, fmt.Errorf("write a plan: %w", err)
	}
	if out.Changes, err = changesOf(before, after); err != nil {
		return out, err
	}
	out.More, err = v.dryRun(out.Period, gen.ProposedCatalog{Plans: []gen.ProposedPlan{proposed}}, checkedPage, checkedPages, func(found []billing.DryRunOrganization) {
		for _, o := range found {
			out.Totals.Add(o)
			if o.Difference == nil && o.Reason != "" || o.Difference != nil && !o.Difference.IsZero() {
				out.Organizations = append(out.Organizations, o)
			}
		}
	})
	if refused, ok := refusal(err); ok && (refused.Status == http.StatusNotFound || refused.Status == http.StatusConflict && !errors.Is(err, errExportedAgain)) {
		return planCheck{Changes: out.Changes, Note: refused.Message}, nil
	}
	if err != nil {
		return out, err
	}
	slices.SortStableFunc(out.Organizations, bySize)
	out.Organizations = out.Organizations[:min(len(out.Organizations), shownDifferences)]
	return out, nil
}

// bySize puts what can't be compared first, then the largest difference.
func bySize(a, b billing.DryRunOrganization) int {
	switch {
	case a.Difference == nil && b.Difference == nil:
		return 0
	case a.Difference == nil:
		return -1
	case b.Difference == nil:
		return 1
	default:
		return b.Difference.Abs().Cmp(a.Difference.Abs())
	}
}
