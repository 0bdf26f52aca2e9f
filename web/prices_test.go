package web_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
)

// everything returns what a form sends where nothing is changed: each field as it is shown.
func (d document) everything(action string) url.Values {
	d.t.Helper()
	out := d.form(action)
	for _, tag := range []string{"input", "select"} {
		for _, n := range d.all(tag, "name", "") {
			switch {
			case attribute(n, "type") == "checkbox" || attribute(n, "type") == "search":
			case tag == "input":
				out.Set(attribute(n, "name"), attribute(n, "value"))
			default:
				out.Set(attribute(n, "name"), "")
				for o := range n.Descendants() {
					for _, a := range o.Attr {
						if a.Key == "selected" {
							out.Set(attribute(n, "name"), attribute(o, "value"))
						}
					}
				}
			}
		}
	}
	return out
}

// value is what a field of a name shows.
func (d document) value(name string) string {
	d.t.Helper()
	found := d.all("input", "name", name)
	require.Len(d.t, found, 1, name)
	return attribute(found[0], "value")
}

const (
	pricesPath = "/prices"
	proPrices  = "plans[0].price_books[0]"
	// evaluations is graduated, flow executions are per unit.
	evaluationsPrice = proPrices + ".prices[0]"
	flowsPrice       = proPrices + ".prices[1]"
)

// rated is a closed month in which organizations used evaluations, and what each was billed.
func rated(t *testing.T, s *site, period calendar.Period) {
	t.Helper()
	used := []struct {
		name, currency, billed string
		evaluations            int64
	}{{"Large", "USD", "249.00", 1_100_000}, {"Small", "USD", "69.00", 200_000}, {"Within", "USD", "49.00", 50_000}, {"Krone", "DKK", "0", 7}}
	organizations := make([]accounts.Organization, len(used))
	for i, u := range used {
		organizations[i] = s.organization(u.name)
	}
	export, owner := issued(t, s, period, organizations...)
	exec(t, owner, `INSERT INTO export_meters (export_id, meter, position, aggregation, unit, name) VALUES ($1, 'evaluations', 0, 'sum', 'evaluation', 'Evaluations')`, export.ID)
	for i, u := range used {
		o := organizations[i].ID
		exec(t, owner, `INSERT INTO export_segments (export_id, organization_id, start_at, end_at, plan, plan_version) VALUES ($1, $2, $3, $4, 'pro', 1)`,
			export.ID, o, period.Start(), period.End())
		exec(t, owner, `INSERT INTO export_usage (export_id, organization_id, meter, value) VALUES ($1, $2, 'evaluations', $3)`, export.ID, o, u.evaluations)
		exec(t, owner, `UPDATE statements SET subtotal = $3::text::numeric, credits = 0, due = $3::text::numeric, currency = $4,
			document = replace(replace(document, '75.00', $3), 'USD', $4) WHERE export_id = $1 AND organization_id = $2`, export.ID, o, u.billed, u.currency)
		exec(t, owner, `UPDATE export_organizations SET currency = $3 WHERE export_id = $1 AND organization_id = $2`, export.ID, o, u.currency)
	}
}

// testPrices edits prices, is told what is wrong beside each field, and sees last month under them.
func testPrices(t *testing.T, s *site) {
	t.Helper()
	b, period := s.browser().signIn("finance"), calendar.PeriodOf(now()).Previous().Previous().Previous().Previous()
	rated(t, s, period)
	d := b.get(pricesPath)
	b.requirePage(pricesPath, d)
	require.Len(t, d.all("input", "type", "checkbox"), 2, "pro and enterprise have prices")
	d = b.get(pricesPath + "?plan=pro")
	b.requirePage(pricesPath, d)
	inForce := d.everything(pricesPath)
	require.Equal(t, "0.0002", inForce.Get(evaluationsPrice+".tiers[0].unit_price"))
	inForce.Set("period", period.String())
	send := func(more ...string) document {
		form := url.Values{}
		for name, values := range inForce {
			form[name] = values
		}
		for i := 0; i < len(more); i += 2 {
			form.Set(more[i], more[i+1])
		}
		return b.post(pricesPath, form)
	}
	same := send("do", "try")
	b.requirePage(pricesPath, same)
	require.Contains(t, same.text(same.root), "No price differs")
	require.Contains(t, same.texts("strong", "class", "number"), "0.00 USD")
	require.Contains(t, same.text(same.root), "Nobody would pay another amount.")

	d = send("do", "try", evaluationsPrice+".tiers[0].unit_price", "0.00030")
	b.requirePage(pricesPath, d)
	rows := d.texts("tr", "", "")
	require.Contains(t, strings.Join(rows, "\n"), "Large pro 249.00 USD 349.00 USD +100.00 USD 40.2\nSmall pro 69.00 USD 79.00 USD +10.00 USD 14.5", "the largest first")
	require.Equal(t, []string{"+110.00 USD", "1"}, d.texts("strong", "class", "number"))
	require.Contains(t, d.text(d.root), "367.00 USD → 477.00 USD (30.0 %); 2 pay more, 0 less, 1 the same")
	require.Contains(t, strings.Join(rows, "\n"), "Krone can't be rated: plan pro version 2 has no prices in DKK", "who can't be priced, and why: %s", rows)
	require.Equal(t, "0.00030", d.value(evaluationsPrice+".tiers[0].unit_price"), "as it was typed")
	require.Empty(t, d.all("button", "value", "publish"), "finance publishes nothing")
	require.Contains(t, d.text(d.root), "An administrator publishes prices")

	testWrongPrices(t, send)
	testDraft(t, b, send)
	refused := send("do", "publish", "checked", d.value("checked"), evaluationsPrice+".tiers[0].unit_price", "0.00030")
	require.Equal(t, http.StatusForbidden, refused.status)
	require.Len(t, refused.all("p", "role", "alert"), 1)
	d = send("do", "try", "period", "2001-01")
	require.Equal(t, http.StatusOK, d.status)
	require.Contains(t, d.text(d.root), "There is no such month to try it on")
	d = send("do", "try", "period", "soon")
	require.Equal(t, http.StatusBadRequest, d.status)
	require.Equal(t, "soon", d.value("period"))
	require.Equal(t, http.StatusNotFound, send("do", "eat").status)
	require.Equal(t, http.StatusNotFound, send("do", "try", "plans[0].key", "none").status)
	testPublishPrices(t, s, period)
	testRefusedPublication(t, s)
}

// testWrongPrices holds that each error names plan, meter, field and rule, beside its field, and that nothing that was typed is lost.
func testWrongPrices(t *testing.T, send func(more ...string) document) {
	t.Helper()
	for _, tt := range []struct{ name, value, says string }{
		{evaluationsPrice + ".tiers[0].unit_price", "0,0003", "Pro, USD, evaluations, tier 1, unit price: must be a decimal number, of at most 12 decimals"},
		{evaluationsPrice + ".tiers[0].unit_price", "", "Pro, USD, evaluations, tier 1, unit price: must be a decimal number"},
		{evaluationsPrice + ".tiers[0].unit_price", "-1", "Pro, USD, evaluations, tier 1, unit price: -1 must be 0 to"},
		{evaluationsPrice + ".tiers[0].up_to", "", "Pro, USD, evaluations, tier 1, up to: 0 must be more than 0"},
		{evaluationsPrice + ".tiers[0].up_to", "1,000", `Pro, USD, evaluations, tier 1, up to: "1,000" must be a whole number`},
		{evaluationsPrice + ".tiers[1].up_to", "5", "Pro, USD, evaluations, tier 2, up to: 5 must be left out: the last tier has no end"},
		{evaluationsPrice + ".discount_percent", "101", "Pro, USD, evaluations, discount in %: 101 must be 0 to 100"},
		{flowsPrice + ".unit_price", "0.0000000000001", "Pro, USD, flow_executions, unit price: must be a decimal number"},
		{flowsPrice + ".included", "many", `Pro, USD, flow_executions, included units: "many" must be a whole number`},
		{flowsPrice + ".per", "-1", "Pro, USD, flow_executions, units of a unit price: -1 must be 1 to"},
		{proPrices + ".base_fee.amount", "forty", "Pro, USD, base fee: must be a decimal number"},
	} {
		d := send("do", "try", tt.name, tt.value, proPrices+".minimum", "12.340")
		require.Equal(t, http.StatusBadRequest, d.status, "%v", tt)
		field := d.all("input", "name", tt.name)[0]
		require.Equal(t, "true", attribute(field, "aria-invalid"), "%v: %s", tt, d.texts("div", "role", "alert"))
		require.Contains(t, d.texts("p", "id", attribute(field, "aria-describedby"))[0], tt.says)
		require.Len(t, d.all("a", "href", "#"+attribute(field, "id")), 1, "the list leads to it")
		require.Equal(t, tt.value, attribute(field, "value"), "what was typed is kept")
		require.Equal(t, "12.340", d.value(proPrices+".minimum"))
		require.Len(t, d.all("input", "aria-invalid", "true"), 1, "%v", tt)
	}
	// Two at once: both are said.
	d := send("do", "try", evaluationsPrice+".tiers[0].unit_price", "-1", flowsPrice+".unit_price", "-2")
	require.Len(t, d.all("input", "aria-invalid", "true"), 2)
}

// testDraft changes models and tiers without a script.
func testDraft(t *testing.T, b *browser, send func(more ...string) document) {
	t.Helper()
	// Of another model nothing is tried before its fields were shown: a flat fee that nobody typed would be free.
	d := send("do", "try", flowsPrice+".model", "flat")
	require.Equal(t, http.StatusBadRequest, d.status)
	require.Len(t, d.all("input", "name", flowsPrice+".flat_fee"), 1)
	require.Equal(t, "0.002", d.value(flowsPrice+".unit_price"), "kept, hidden")
	require.Equal(t, "hidden", attribute(d.all("input", "name", flowsPrice+".unit_price")[0], "type"))
	back := d.everything(pricesPath)
	back.Set(flowsPrice+".flat_fee", "5")
	back.Set("do", "try")
	require.Equal(t, http.StatusOK, b.post(pricesPath, back).status)

	d = send("do", "fields", flowsPrice+".model", "volume")
	require.Equal(t, "0.002", d.value(flowsPrice+".tiers[0].unit_price"), "the first tier has the price that there was")
	d = send("do", "tier:"+evaluationsPrice)
	require.Len(t, d.all("input", "name", evaluationsPrice+".tiers[2].up_to"), 1)
	require.Empty(t, d.value(evaluationsPrice+".tiers[1].up_to"), "it comes before the last one")
	legends := d.texts("legend", "", "")
	require.Contains(t, legends, "Tier 2, from 1,000,001", "the unit after the last one of the tier before")
	require.Contains(t, legends, "Tier 3, from the unit after tier 2, without an end")
	d = send("do", "drop:"+evaluationsPrice+".tiers[1]")
	require.Empty(t, d.all("input", "name", evaluationsPrice+".tiers[1].up_to"))
	d = send("do", "drop:"+evaluationsPrice)
	require.Equal(t, "flow_executions", d.value(evaluationsPrice+".meter"))
	again := d.everything(pricesPath)
	again.Set(proPrices+".new", "evaluations")
	again.Set("do", "add:"+proPrices)
	d = b.post(pricesPath, again)
	require.Equal(t, "evaluations", d.value(proPrices+".prices[4].meter"))
	require.Equal(t, http.StatusNotFound, send("do", "drop:plans[9]").status)
}

// testPublishPrices publishes as an administrator what he has tried, and nothing else.
func testPublishPrices(t *testing.T, s *site, period calendar.Period) {
	t.Helper()
	b := s.browser().signIn("admin")
	d := b.get(pricesPath + "?plan=enterprise&plan=pro")
	b.requirePage(pricesPath, d)
	form := d.everything(pricesPath)
	form.Set("period", period.String())
	form.Set("do", "try")
	at := "plans[0]"
	if form.Get(at+".key") != "enterprise" {
		at = "plans[1]"
	}
	fee := at + ".price_books[0].base_fee.amount"
	form.Set(fee, "1200")
	d = b.post(pricesPath, form)
	b.requirePage(pricesPath, d)
	require.Contains(t, d.texts("tr", "", ""), "enterprise price books USD base fee amount 999 1200")
	tried := d.everything(pricesPath)
	tried.Set("do", "publish")
	tried.Set(fee, "1300")
	require.Equal(t, http.StatusConflict, b.post(pricesPath, tried).status, "it is not what was tried")
	tried.Set("do", "page:1")
	stale := b.post(pricesPath, tried)
	require.Contains(t, stale.text(stale.root), "Fields were changed after this was tried")
	require.Empty(t, stale.all("button", "value", "publish"))
	tried.Set(fee, "1200")
	tried.Set("do", "publish")
	tried.Set("once", uuid.NewString())
	require.Equal(t, "/plans?done=published", b.post(pricesPath, tried).header.Get("Location"))
	versions := b.get("/plans/enterprise")
	require.Contains(t, versions.texts("tr", "", ""), "price books USD base fee amount 999 1200")
	require.Empty(t, b.get("/plans/pro").all("a", "href", "/plans/pro?from=1&to=2"), "pro is as it was")
	tried.Set("once", uuid.NewString())
	d = b.post(pricesPath, tried)
	require.Equal(t, http.StatusBadRequest, d.status)
	require.Contains(t, d.texts("p", "role", "alert")[0], "No price differs")
	tried.Set(fee, "1500")
	tried.Set("do", "try")
	again := b.post(pricesPath, tried).everything(pricesPath)
	again.Set("do", "publish")
	d = b.post(pricesPath, again)
	require.Equal(t, http.StatusConflict, d.status)
	require.Contains(t, d.texts("p", "role", "alert")[0], "Version 2 of enterprise was published meanwhile")
	require.Equal(t, "1500", d.value(fee))
}

// testRefusedPublication has the second of two plans refused: the first isn't published either, and what was typed stays.
func testRefusedPublication(t *testing.T, s *site) {
	t.Helper()
	owner := s.owner(t)
	currency := func(from, to string) {
		exec(t, owner, `UPDATE plans SET price_books = replace(price_books::text, $1, $2)::jsonb WHERE key = 'enterprise'`, from, to)
	}
	// Its currency is withdrawn: what is published in it stays, nothing more is.
	currency("USD", "BGN")
	defer currency("BGN", "USD")
	b := s.browser().signIn("admin")
	form := b.get(pricesPath + "?plan=pro&plan=enterprise").everything(pricesPath)
	const first, second = "plans[0].price_books[0].base_fee.amount", "plans[1].price_books[0].base_fee.amount"
	form.Set(first, "51")
	form.Set(second, "1700")
	form.Set("period", "2001-01")
	form.Set("do", "try")
	tried := b.post(pricesPath, form).everything(pricesPath)
	tried.Set("do", "publish")
	d := b.post(pricesPath, tried)
	require.Equal(t, http.StatusBadRequest, d.status, d.text(d.root))
	says := d.texts("p", "role", "alert")[0]
	require.Contains(t, says, "Nothing was published.")
	require.Contains(t, says, "plan enterprise version")
	require.Contains(t, says, "that ISO 4217 has not withdrawn")
	require.Equal(t, "51", d.value(first))
	require.Equal(t, "1700", d.value(second))
	require.Equal(t, "49", b.get(pricesPath+"?plan=pro").value(first), "the first is as it was")
}

// many is of how many organizations a month is tried; 100,000 takes some seconds.
var many = flag.Int("trial", 2500, "of how many organizations prices are tried")

// testManyPrices tries prices on more organizations than one request rates, and leafs through the result.
func testManyPrices(t *testing.T, s *site) {
	t.Helper()
	b, period := s.browser().signIn("finance"), calendar.PeriodOf(now()).Previous().Previous().Previous().Previous().Previous()
	export, owner := issued(t, s, period)
	exec(t, owner, `INSERT INTO export_meters (export_id, meter, position, aggregation, unit, name) VALUES ($1, 'evaluations', 0, 'sum', 'evaluation', 'Evaluations')`, export.ID)
	exec(t, owner, `CREATE TEMP TABLE o AS SELECT tollgate_uuidv7() AS id, n FROM generate_series(1, $1::int) n`, *many)
	for _, statement := range []string{
		`INSERT INTO export_organizations (export_id, organization_id, name, plan, currency) SELECT $1, id, 'Organization ' || n, 'pro', 'USD' FROM o`,
		`INSERT INTO export_segments (export_id, organization_id, start_at, end_at, plan, plan_version)
			SELECT e.id, o.id, e.period::timestamp AT TIME ZONE 'UTC', e.cut, 'pro', 1 FROM o, exports e WHERE e.id = $1`,
		`INSERT INTO export_usage (export_id, organization_id, meter, value) SELECT $1, id, 'evaluations', 100000 + n * 10 FROM o`,
		`INSERT INTO statements (export_id, organization_id, currency, subtotal, credits, due, line_count, corrects, document, number, issued)
			SELECT $1::uuid, id, 'USD', round(49 + n * 0.002, 2), 0, round(49 + n * 0.002, 2), 1, false, '{}', $1::uuid || '-' || n, true FROM o`,
	} {
		exec(t, owner, statement, export.ID)
	}
	exec(t, owner, `ANALYZE`)
	form := b.get(pricesPath + "?plan=pro").everything(pricesPath)
	form.Set("period", period.String())
	form.Set("do", "try")
	form.Set(evaluationsPrice+".tiers[0].unit_price", "0.0003")
	began := time.Now()
	d := b.post(pricesPath, form)
	for strings.Contains(d.text(d.root), "so far") {
		form.Set("do", "look")
		form.Set("trial", d.value("trial"))
		d = b.post(pricesPath, form)
	}
	t.Logf("%d organizations took %s", *many, time.Since(began))
	b.requirePage(pricesPath, d)
	names := func(d document) (out []string) {
		for _, row := range d.texts("tr", "", "") {
			if strings.HasPrefix(row, "Organization ") && strings.Contains(row, " pro ") {
				out = append(out, strings.Join(strings.Fields(row)[:2], " "))
			}
		}
		return out
	}
	first := names(d)
	require.Len(t, first, 50)
	require.Contains(t, first, fmt.Sprintf("Organization %d", *many))
	form.Set("trial", d.value("trial"))
	form.Set("do", "page:2")
	second := b.post(pricesPath, form)
	require.Contains(t, second.text(second.root), fmt.Sprintf("Page 2 of %d", min(*many, 5000)/50))
	require.NotSubset(t, first, names(second))
	form.Set("trial", "another replica's")
	require.Equal(t, names(second), names(b.post(pricesPath, form)), "the form is enough")
}
