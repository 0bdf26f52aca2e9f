package web

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/money"
)

const (
	// maxFields is how many fields a page of prices has: it stays light.
	maxFields = 250
	// resultRows is how many organizations a page of a result has.
	resultRows = 50
	// lookFor is how long a request waits for a trial to end.
	lookFor = 3 * time.Second
)

// pricesPage edits prices, and shows what a month would have been under them.
type pricesPage struct {
	// Period is the month to try them on.
	Period string
	// Choice are the plans to choose from; Plans those that are edited.
	Choice []gen.Plan
	Plans  []planPrices
	// Refusal says what can't be done, Wrong what is wrong with the fields.
	Refusal string
	Wrong   []wrongField
	// MayPublish says that the visitor's role publishes.
	MayPublish bool
	Result     *trialResult
}

// Edits says that a plan is edited.
func (p pricesPage) Edits(key string) bool {
	return slices.ContainsFunc(p.Plans, func(one planPrices) bool { return one.Key == key })
}

// trialResult is a trial as far as it is, a page of it.
type trialResult struct {
	Trial, Checked, Period string
	Changes                []change
	// Stale says that the fields are others than those that were tried.
	Stale bool
	// Running says that organizations are still looked at; Note why there is no month to try it on.
	Running bool
	Note    string
	Totals  billing.DryRunTotals
	// Currency is whose organizations are shown.
	Currency   money.Currency
	Rows       []trialRow
	Unable     []trialRow
	Page, Last int
	// Puts are the plans as they would be put, for who publishes them.
	Puts []gen.PlanPut
}

// Unpriced is how many could not be compared.
func (r trialResult) Unpriced() int64 { return r.Totals.Unrated + r.Totals.Unbilled }

// Shown says how many differ in the currency, and how many of them are listed.
func (r trialResult) Beyond() int64 {
	for _, m := range r.Totals.Money {
		if m.Currency == r.Currency {
			return max(0, m.Higher+m.Lower-keptDifferences)
		}
	}
	return 0
}

// Document is a plan as its page takes it.
func (r trialResult) Document(put gen.PlanPut) (string, error) {
	document, err := json.MarshalIndent(put, "", "  ")
	return string(document), err
}

// prices lets a visitor choose plans, and edit their prices.
func (v *visit) prices() error {
	catalog, p, err := v.pricesPage()
	if err != nil {
		return err
	}
	var chosen []gen.Plan
	for _, key := range v.r.URL.Query()["plan"] {
		for _, plan := range catalog.Plans {
			if plan.Key == key {
				chosen = append(chosen, plan)
			}
		}
	}
	d := newDraft(chosen)
	if d.fields() > maxFields {
		p.Refusal = fmt.Sprintf("These are more than %d fields. Choose fewer plans, or try a file: tollgate rate --catalog FILE --period %s.", maxFields, p.Period)
		return v.show(http.StatusBadRequest, "prices", p)
	}
	p.fill(d, catalog)
	return v.page("prices", p)
}

func (v *visit) pricesPage() (gen.Catalog, pricesPage, error) {
	var catalog gen.Catalog
	err := v.get(&catalog, "/plans")
	p := pricesPage{Period: calendar.PeriodOf(v.now).Previous().String(), MayPublish: v.actor.Role == accounts.RoleAdmin}
	for _, plan := range catalog.Plans {
		if len(plan.PriceBooks) > 0 {
			p.Choice = append(p.Choice, plan)
		}
	}
	return catalog, p, err
}

// editPrices does what a button of the form says. Whatever comes of it, what was typed is there again.
func (v *visit) editPrices() error {
	catalog, p, err := v.pricesPage()
	if err != nil {
		return err
	}
	do := v.r.PostFormValue("do")
	if period := v.given("period"); period != nil {
		p.Period = *period
	}
	d := readDraft(v.r.PostForm)
	refuse := func(status int, says string) error {
		p.Refusal = says
		p.fill(d, catalog)
		return v.show(status, "prices", p)
	}
	if do == "fields" || d.change(do, v.r.PostForm) {
		clear(d.wrong)
		if d.fields() > maxFields {
			return refuse(http.StatusBadRequest, fmt.Sprintf("These are more than %d fields.", maxFields))
		}
		p.fill(d, catalog)
		return v.page("prices", p)
	}
	if what, _, _ := strings.Cut(do, ":"); !slices.Contains(resultButtons, what) {
		return notFound("such button")
	}
	if len(d.Plans) == 0 {
		return refuse(http.StatusBadRequest, "Choose a plan first.")
	}
	proposed, err := d.propose(catalog.Plans)
	if err != nil {
		return err
	}
	if len(d.wrong) > 0 {
		return refuse(http.StatusBadRequest, "")
	}
	if do == "publish" {
		return v.publishPrices(d, proposed, catalog, refuse)
	}
	if p.Result, err = v.tried(do, p.Period, proposed); err != nil {
		// Also where a part of ours is away: what was typed is worth more than a page of its own.
		var refused *gate.Problem
		if !errors.As(err, &refused) || refused.Status == http.StatusUnauthorized {
			return err
		}
		says := refused.Message
		if d.blame(refused) {
			says = ""
		}
		return refuse(refused.Status, says)
	}
	p.fill(d, catalog)
	return v.page("prices", p)
}

// resultButtons are those that look at prices as they are typed: Enter presses the first.
var resultButtons = []string{"", "try", "look", "page", "currency", "publish"}

// publishPrices puts the plans that differ, each as it was tried.
func (v *visit) publishPrices(d draft, proposed proposal, catalog gen.Catalog, refuse func(int, string) error) error {
	switch {
	case len(proposed.puts) == 0:
		return refuse(http.StatusBadRequest, "No price differs from those in force.")
	case v.r.PostFormValue("checked") != proposed.digest():
		return refuse(http.StatusConflict, "It was changed after it was tried. Try it again.")
	}
	for _, one := range d.Plans {
		for _, plan := range catalog.Plans {
			if plan.Key == one.Key && plan.Version != one.Version {
				return refuse(http.StatusConflict, fmt.Sprintf("Version %d of %s was published meanwhile; this began with version %d. Note what you changed, and begin anew.",
					plan.Version, one.Key, one.Version))
			}
		}
	}
	err := v.send(http.MethodPost, "/plans", gen.PlansPut{Plans: proposed.puts}, nil)
	return v.after(err, "/plans?done=published", func(refused *gate.Problem) error {
		says := "Nothing was published."
		if !d.blame(proposed.inDraft(refused)) {
			says += " " + refused.Message
		}
		return refuse(refused.Status, says)
	})
}

// inDraft makes a refusal of the plans that were put one of the draft, which has others between them.
func (p proposal) inDraft(refused *gate.Problem) *gate.Problem {
	var places []string
	for i, at := range p.places {
		places = append(places, planAt(i)+".", planAt(at)+".")
	}
	out, draft := *refused, strings.NewReplacer(places...)
	out.Message, out.Field = draft.Replace(refused.Message), draft.Replace(refused.Field)
	return &out
}

// digest says that two proposals are the same.
func (p proposal) digest() string {
	document, err := json.Marshal(p.catalog)
	if err != nil {
		// It was read from text: there is nothing in it that has no JSON.
		panic(err)
	}
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// tried begins a trial, or looks at the one that a form names, and waits a little for its end.
func (v *visit) tried(do, period string, proposed proposal) (*trialResult, error) {
	var t *trial
	what, which, _ := strings.Cut(do, ":")
	if what != "try" && what != "" {
		t = v.pages.trials.find(v.r.PostFormValue("trial"), v.signIn.ID.String())
	}
	out := &trialResult{Checked: proposed.digest(), Changes: proposed.changes, Puts: proposed.puts}
	if t == nil {
		// The API says what is wrong before anything begins. One organization is enough for that.
		var found gen.DryRunPage
		err := v.ask(http.MethodPost, "/billing/exports/"+period+"/dry-run", []string{"limit", "1"}, proposed.catalog, &found)
		if refused, ok := refusal(err); ok && (refused.Status == http.StatusNotFound || refused.Status == http.StatusConflict) {
			out.Note = refused.Message
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if t, err = v.tryPrices(period, proposed); err != nil {
			return nil, err
		}
	}
	select {
	case <-t.done:
	case <-time.After(lookFor):
	case <-v.r.Context().Done():
	}
	if err := t.failure(); err != nil {
		return nil, err
	}
	page, currency := 1, v.r.PostFormValue("currency")
	switch what {
	case "page":
		page, _ = strconv.Atoi(which)
	case "currency":
		currency = which
	}
	t.show(out, money.Currency(currency), page, v.now)
	return out, nil
}

// show takes a page of a trial.
func (t *trial) show(out *trialResult, currency money.Currency, page int, now time.Time) {
	ended := t.ended()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = now
	out.Stale = t.proposed.digest() != out.Checked
	out.Trial, out.Running, out.Period = t.id, !ended, t.period
	out.Checked, out.Changes, out.Puts = t.proposed.digest(), t.proposed.changes, t.proposed.puts
	out.Totals = t.totals
	out.Totals.Money, out.Totals.KeptPlans = slices.Clone(t.totals.Money), slices.Clone(t.totals.KeptPlans)
	if !ended {
		return
	}
	most := int64(-1)
	for _, m := range t.totals.Money {
		if m.Currency == currency {
			out.Currency = currency
			break
		}
		if m.Organizations > most {
			out.Currency, most = m.Currency, m.Organizations
		}
	}
	rows := t.differ[out.Currency]
	out.Last = max(1, (len(rows)+resultRows-1)/resultRows)
	out.Page = min(max(1, page), out.Last)
	begin := min((out.Page-1)*resultRows, len(rows))
	out.Rows = slices.Clone(rows[begin:min(begin+resultRows, len(rows))])
	out.Unable = slices.Clone(t.unable[:min(resultRows, len(t.unable))])
}

// blame finds out which fields a refusal is about. False: none of the draft's.
func (d *draft) blame(refused *gate.Problem) bool {
	for line := range strings.Lines(refused.Message) {
		if field, rule, ok := fieldAndRule(strings.TrimSpace(line), refused.Field); ok {
			// In a form all is text.
			d.wrong[field] = strings.Replace(rule, " in a string", "", 1)
		}
	}
	return len(d.wrong) > 0
}

// fieldAndRule reads a line of a refusal: a catalog names each of its fields at fault, and so does a field of a request.
func fieldAndRule(line, field string) (string, string, bool) {
	if field != "" && strings.HasPrefix(line, field+" ") {
		return field, strings.TrimPrefix(line, field+" "), strings.HasPrefix(field, "plans[")
	}
	line = strings.TrimPrefix(line, "invalid catalog: ")
	at, rule, ok := strings.Cut(line, ": ")
	return at, rule, ok && strings.HasPrefix(at, "plans[")
}
