package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

// issued is a closed month with one statement of each organization, of a number.
func issued(t *testing.T, s *site, period calendar.Period, organizations ...accounts.Organization) (billing.Export, *pgx.Conn) {
	t.Helper()
	export, _, err := s.store.BeginExport(t.Context(), billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: "export/" + period.String(), RunID: "run", Cut: period.End(),
		RequestedBy: "month-end", RequestedByID: s.ids["finance"], RequestedAt: now(),
	})
	require.NoError(t, err)
	owner := s.owner(t)
	manifest, err := json.Marshal(billing.Manifest{Format: documents.ManifestFormat, Period: period, Cut: period.End(), Program: "test"})
	require.NoError(t, err)
	exec(t, owner, `UPDATE exports SET stage = 'closed', frozen_at = now(), issued_at = now(), finished_at = now(), manifest = $2::text::jsonb WHERE id = $1`, export.ID, string(manifest))
	for i, o := range organizations {
		document := fmt.Sprintf(`{"period":%q,"organization_id":%q,"organization_name":%q,"currency":"USD","plan":"pro","lines":[{"kind":"usage",
			"description":"Evaluations","start":"2026-10-01T00:00:00Z","end":"2026-11-01T00:00:00Z","exact":"75","rest":"0","amount":"75.00"}],
			"subtotal":"75.00","credits":"30.00","due":"45.00"}`, period, o.ID, o.Name)
		exec(t, owner, `INSERT INTO export_organizations (export_id, organization_id, name, plan, currency) VALUES ($1, $2, $3, 'pro', 'USD')`, export.ID, o.ID, o.Name)
		exec(t, owner, `INSERT INTO statements (export_id, organization_id, currency, subtotal, credits, due, line_count, corrects, document, number, issued)
			VALUES ($1, $2, 'USD', 75, 30, 45, 1, false, $3, $4, true)`, export.ID, o.ID, document, fmt.Sprintf("TG-%s-%06d", period, i+1))
	}
	return export, owner
}

// owner is a connection of the database's owner.
func (s *site) owner(t *testing.T) *pgx.Conn {
	t.Helper()
	owner, err := pgx.Connect(t.Context(), s.database.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	return owner
}

func exec(t *testing.T, owner *pgx.Conn, statement string, with ...any) {
	t.Helper()
	_, err := owner.Exec(t.Context(), statement, with...)
	require.NoError(t, err, statement)
}

func (s *site) organization(name string) accounts.Organization {
	s.t.Helper()
	o, err := s.store.CreateOrganization(s.t.Context(), accounts.NewOrganization{Name: name, Plan: "pro", EffectiveAt: calendar.PeriodOf(now()).Start()})
	require.NoError(s.t, err)
	return o
}

// testDeliveries shows what became of a month's statements in Stripe, and tries what is left.
func testDeliveries(t *testing.T, s *site) {
	t.Helper()
	period := calendar.PeriodOf(now()).Previous().Previous().Previous()
	taken, refused, unknown, waits := s.organization("Taken"), s.organization("Refused"), s.organization("Unknown <b>"), s.organization("Waits")
	export, owner := issued(t, s, period, taken, refused, unknown, waits)
	exec(t, owner, `INSERT INTO statement_deliveries (export_id, organization_id, sink, external_id) VALUES ($1, $2, 'stripe', 'in_1')`, export.ID, taken.ID)
	exec(t, owner, `INSERT INTO statement_undelivered (export_id, organization_id, sink, state, reason, attempts) VALUES ($1, $2, 'stripe', 'failed', 'No such customer: cus_9', 3)`, export.ID, refused.ID)
	exec(t, owner, `INSERT INTO statement_undelivered (export_id, organization_id, sink, state, reason, attempts) VALUES ($1, $2, 'stripe', 'no_customer', '', 1)`, export.ID, unknown.ID)

	b, path := s.browser().signIn("finance"), "/months/"+period.String()+"/deliveries"
	month := b.get("/months/" + period.String())
	require.Len(t, month.all("a", "href", path), 1, "the month leads there: %s", month.text(month.root))
	d := b.get(path)
	b.requirePage(path, d)
	rows := strings.Join(d.texts("tr", "", ""), "\n")
	for _, row := range []string{
		"Taken credits of Taken TG-" + period.String() + "-000001 delivered in_1 –", "failed No such customer: cus_9 3", "no customer Its customer", "000004 pending – –",
	} {
		require.Contains(t, rows, row)
	}
	require.Equal(t, []string{"1", "1", "0", "0", "1", "1"}, d.texts("strong", "class", "number"))
	require.Contains(t, d.text(d.root), "3 are left")
	for _, a := range d.all("a", "href", "") {
		if to := attribute(a, "href"); strings.Contains(to, "/statements/") {
			b.requirePage(to, b.get(to))
		}
	}
	require.Len(t, b.get(path+"?state=failed").all("tr", "", ""), 2)
	require.Equal(t, http.StatusBadRequest, b.get(path+"?state=eaten").status)
	require.Equal(t, http.StatusNotFound, b.get(path+"?revision=2").status)
	require.Equal(t, http.StatusNotFound, b.get("/months/2001-01/deliveries").status)

	d = b.get(path + "?state=no_customer")
	wrong := b.post(path, d.form(path, "do", "customer", "organization", unknown.ID.String(), "customer", "cus 1"))
	require.Equal(t, http.StatusBadRequest, wrong.status)
	require.Len(t, wrong.all("p", "role", "alert"), 1)
	require.Equal(t, "cus 1", attribute(wrong.all("input", "id", "customer-"+unknown.ID.String())[0], "value"), "what was typed is kept")
	require.Equal(t, path+"?state=no_customer&done=customer",
		b.post(path, d.form(path, "do", "customer", "organization", unknown.ID.String(), "customer", "cus_1", "once", uuid.NewString())).header.Get("Location"))
	require.Equal(t, http.StatusServiceUnavailable, b.post(path, d.form(path, "do", "deliver", "once", uuid.NewString())).status, "Temporal is away")
	require.Equal(t, http.StatusNotFound, b.post(path, d.form(path, "do", "forget")).status)
	require.Len(t, b.get(path+"?done=delivering").all("div", "hx-trigger", "every 5s"), 1, "the counts move")
}

// testCredits grants, voids, and shows the ledger; what has expired is never called usable.
func testCredits(t *testing.T, s *site) {
	t.Helper()
	b, o := s.browser().signIn("finance"), s.organization("Prepaid & Co")
	d := b.get("/credits?search=prepaid")
	b.requirePage("/credits", d)
	path := "/credits/" + o.ID.String()
	require.Len(t, d.all("a", "href", path), 1)
	d = b.get(path)
	b.requirePage(path, d)
	require.Contains(t, d.text(d.root), "It was never given any.")

	grant := func(more ...string) document {
		form := b.get(path).form(path, append([]string{"currency", "USD", "note", "a year ahead"}, more...)...)
		return b.post(path, form)
	}
	for _, tt := range []struct{ field, value string }{
		{"amount", "ten"},
		{"amount", "1,000.00"},
		{"amount", "0.001"},
		{"amount", "-5"},
		{"currency", "XXX"},
		{"note", " "},
		{"priority", "low"},
		{"priority", "101"},
		{"expires_at", "tomorrow"},
		{"expires_at", "2001-01-01"},
	} {
		d = grant("amount", "12.50", tt.field, tt.value)
		require.Equal(t, http.StatusBadRequest, d.status, "%v", tt)
		field := d.all("input", "id", tt.field)[0]
		require.Equal(t, "true", attribute(field, "aria-invalid"), "%v: %s", tt, d.texts("p", "role", "alert"))
		require.Equal(t, tt.value, attribute(field, "value"), "what was typed is kept")
		require.Len(t, d.all("input", "aria-invalid", "true"), 1, "%v", tt)
		if tt.field != "amount" {
			require.Equal(t, "12.50", attribute(d.all("input", "id", "amount")[0], "value"))
		}
		require.Contains(t, strings.Join(d.texts("strong", "class", "warn"), " "), tt.field, "the error is beside its field")
	}
	require.Equal(t, path+"?done=granted", grant("amount", "100.10").header.Get("Location"))
	once := b.get(path).form(path, "amount", "0.1", "currency", "USD", "note", "sent twice", "priority", "60")
	for range 2 {
		require.Equal(t, path+"?done=granted", b.post(path, once).header.Get("Location"))
	}
	tomorrow := now().AddDate(0, 0, 1).Format(time.DateOnly)
	require.Equal(t, http.StatusSeeOther, grant("amount", "7", "effective_at", tomorrow, "note", "later").status)
	foreign := grant("amount", "5000", "currency", "JPY", "note", "yen")
	require.Equal(t, http.StatusBadRequest, foreign.status)
	require.Contains(t, strings.Join(foreign.texts("strong", "class", "warn"), " "), "must be USD, in which the organization is billed")
	require.Equal(t, "5000", attribute(foreign.all("input", "id", "amount")[0], "value"), "what was typed is kept")
	// One whose time is over, and which the last month may still draw on: it remains, and is not usable.
	_, err := s.store.GrantCredit(t.Context(), billing.CreditGrant{
		Organization: o.ID, Currency: "USD", Amount: decimal.NewFromInt(40), Priority: 1, EffectiveAt: now().Add(-2 * time.Hour), ExpiresAt: now().Add(-time.Hour), Note: "over",
	})
	require.NoError(t, err)

	d = b.get(path)
	b.requirePage(path, d)
	require.Equal(t, []string{"100.20 USD"}, d.texts("strong", "class", "number"), "0.1 + 100.10, exactly; neither what comes nor what is over")
	require.Contains(t, d.text(d.root), "147.20 USD remain")
	rows := strings.Join(d.texts("tr", "", ""), "\n")
	require.Contains(t, rows, "over priority 1 expired may still pay months that are not closed 40.00 USD 40.00 USD")
	require.Contains(t, rows, "later priority 50 not yet 7.00 USD")
	require.Contains(t, rows, "a year ahead priority 50 usable 100.10 USD 100.10 USD")
	require.NotContains(t, rows, "JPY")

	testVoid(t, s, b, o)
	testSecondPerson(t, s, b, path)
	admin := s.browser().signIn("admin")
	d = admin.get(path)
	admin.requirePage(path, d)
	require.Empty(t, d.actions("/credits/"), "an administrator grants and voids nothing")
	require.Equal(t, http.StatusForbidden, admin.post(path, d.form("/sign-out", "amount", "1", "currency", "USD", "note", "x")).status)
	require.Equal(t, http.StatusNotFound, b.get("/credits/"+uuid.NewString()).status)
	require.Equal(t, http.StatusNotFound, b.get("/credits/x").status)
}

// testVoid takes a grant back after a month has drawn a part of it.
func testVoid(t *testing.T, s *site, b *browser, o accounts.Organization) {
	t.Helper()
	period := calendar.PeriodOf(now()).Previous().Previous()
	export, owner := issued(t, s, period, o)
	path := "/credits/" + o.ID.String()
	var drawn uuid.UUID
	require.NoError(t, owner.QueryRow(t.Context(), `SELECT id FROM credit_grants WHERE organization_id = $1 AND note = 'a year ahead'`, o.ID).Scan(&drawn))
	exec(t, owner, `INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, export_id, key)
		VALUES (tollgate_uuidv7(), $1, $2, 'burn', 'customer_credit', 'revenue', 30.05, 'USD', $3, 'burn/x')`, drawn, o.ID, export.ID)
	void := path + "/" + drawn.String()
	d := b.get(path)
	require.Contains(t, d.texts("button", "class", "danger"), "Void 70.05 USD of a year ahead")
	refused := b.post(void, d.form(void, "note", " "))
	require.Equal(t, http.StatusBadRequest, refused.status)
	require.Len(t, refused.all("p", "role", "alert"), 1)
	form := b.get(path).form(void, "note", "by mistake")
	for range 2 {
		require.Equal(t, path+"?done=voided", b.post(void, form).header.Get("Location"))
	}
	d = b.get(path)
	rows := strings.Join(d.texts("tr", "", ""), "\n")
	require.Contains(t, rows, "a year ahead priority 50 voided 0.00 USD 100.10 USD")
	require.Contains(t, rows, "drawn by "+period.String()+" −30.05 USD customer credit → revenue")
	require.Contains(t, rows, "voided −70.05 USD customer credit → granted by mistake")
	require.Contains(t, d.texts("strong", "class", "number"), "0.10 USD")
	statement := "/months/" + period.String() + "/statements/" + o.ID.String() + "?revision=1"
	require.Len(t, d.all("a", "href", statement), 1)
	b.requirePage(statement, b.get(statement))
	require.Equal(t, http.StatusNotFound, b.post(path+"/x", url.Values{"form": form["form"], "note": {"x"}}).status)
	again := b.post(void, b.get(path).form(path, "note", "again"))
	require.Contains(t, []int{http.StatusConflict, http.StatusSeeOther}, again.status, "nothing remains")
}

// testSecondPerson has a grant that is too much for one person wait for another one.
func testSecondPerson(t *testing.T, s *site, b *browser, path string) {
	t.Helper()
	propose := func(note string) string {
		waits := b.post(path, b.get(path).form(path, "amount", "20000.50", "currency", "USD", "note", note))
		require.Equal(t, path+"?done=waits", waits.header.Get("Location"))
		d := b.get(path)
		b.requirePage(path, d)
		require.Contains(t, strings.Join(d.texts("tr", "", ""), "\n"), note+" from")
		require.Contains(t, d.text(d.root), "20,000.50 USD month-end (ada)")
		require.NotContains(t, strings.Join(d.texts("tr", "", ""), "\n"), note+" priority", "nothing is granted yet")
		return d.actions(path + "/proposals/")[0]
	}
	// Others wait before it: more than a page of them.
	owner := s.owner(t)
	exec(t, owner, `INSERT INTO proposals (id, kind, content, proposed_by) SELECT tollgate_uuidv7(), 'plan', '{}', $1 FROM generate_series(1, 1000)`, s.ids["finance"])
	to := propose("a large order")
	exec(t, owner, `DELETE FROM proposals WHERE content = '{}'`)
	alone := b.post(to, b.get(path).form(to, "do", "approve", "note", "mine"))
	require.Equal(t, http.StatusForbidden, alone.status)
	require.Len(t, alone.all("p", "role", "alert"), 1)
	require.Equal(t, "mine", attribute(alone.all("input", "value", "mine")[0], "value"), "what was typed is kept")
	s.addKey("finance2", accounts.Key{Role: accounts.RoleFinance, Name: "controller", Owner: "lin"})
	other := s.browser().signIn("finance2")
	require.Equal(t, http.StatusNotFound, other.post(to, other.get(path).form(to, "do", "eat")).status)
	require.Equal(t, path+"?done=approved", other.post(to, other.get(path).form(to, "do", "approve")).header.Get("Location"))
	d := other.get(path)
	require.Contains(t, strings.Join(d.texts("tr", "", ""), "\n"), "a large order priority 50 usable 20,000.50 USD")
	require.Empty(t, d.actions(path+"/proposals/"))

	to = propose("by mistake")
	require.Equal(t, http.StatusBadRequest, other.post(to, other.get(path).form(to, "do", "reject")).status, "it wants a note")
	require.Equal(t, path+"?done=rejected", other.post(to, other.get(path).form(to, "do", "reject", "note", "no order")).header.Get("Location"))
	require.NotContains(t, strings.Join(other.get(path).texts("tr", "", ""), "\n"), "by mistake priority")
}
