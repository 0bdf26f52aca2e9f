package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const twoOrganizations = `{"organizations":[
	{"id":"` + someID + `","name":"Acme","plan":"free","pending_plan":"pro","pending_from":"2026-12-01T00:00:00Z","ends_at":"2027-01-01T00:00:00Z","created_at":"2026-10-02T08:00:00Z"},
	{"id":"` + anotherID + `","name":"Beta & Sons","plan":"","ends_at":"2026-11-01T00:00:00Z","created_at":"2026-10-03T08:00:00Z"}]}`

// People read tables. Columns are as wide as what is in them.
func TestTables(t *testing.T) {
	s := newShell(t)
	s.terminal = true
	for _, tt := range []struct {
		args, answer string
		want         []string
	}{
		{"org list", twoOrganizations, []string{
			"ID                                    NAME         PLAN  SINCE       TO COME",
			someID + "  Acme         free  2026-10-02  pro from 2026-12-01T00:00:00Z, ends 2027-01-01T00:00:00Z",
			anotherID + "  Beta & Sons  -     2026-10-03  ended 2026-11-01T00:00:00Z",
		}},
		{"keys list", `{"keys":[
			{"id":"` + someID + `","role":"admin","prefix":"tg_a","name":"root","owner":"ada"},
			{"id":"` + anotherID + `","role":"finance","prefix":"tg_f","name":"old","owner":"ben","revoked_at":"2026-11-01T00:00:00Z"}]}`, []string{
			"ID                                    ROLE     PREFIX  NAME  OWNER  STATE",
			someID + "  admin    tg_a…   root  ada    works",
			anotherID + "  finance  tg_f…   old   ben    revoked 2026-11-01T00:00:00Z",
		}},
		{"keys create --name x --role admin --owner ada", `{"id":"` + someID + `","role":"admin","secret":"tg_secret"}`, []string{
			"ID                                    ROLE   SECRET (shown once)",
			someID + "  admin  tg_secret",
		}},
		{"usage", `{"meters":[
			{"meter":"evaluations","current":7,"held":2,"max":10,"remaining":1,"mode":"hard","window":{"start":"2026-11-28T00:00:00Z","end":"2026-11-29T00:00:00Z"}},
			{"meter":"storage","current":5,"mode":"none","window":{"start":"2026-11-01T00:00:00Z","end":"2026-12-01T00:00:00Z"}}]}`, []string{
			"METER        CURRENT  HELD  MAX  REMAINING  MODE  UNTIL",
			"evaluations  7        2     10   1          hard  2026-11-29",
			"storage      5        0     –    –          none  2026-12-01",
		}},
		{"usage history --meter evaluations --from 2026-11-01 --to 2026-11-02", `{"points":[{"start":"2026-11-01","value":3}]}`, []string{
			"FROM        evaluations",
			"2026-11-01  3",
		}},
		{"export list", `{"exports":[
			{"period":"2026-11","stage":"done","provisional":true,"cut":"2026-11-28T12:00:00Z","requested_by":"finance","run_id":"r2"},
			{"period":"2026-10","stage":"failed","error":"no disk","cut":"2026-11-01T00:00:00Z","requested_by":"finance","run_id":"r1"}]}`, []string{
			"PERIOD   STAGE               CUT                   BY       RUN",
			"2026-11  done (provisional)  2026-11-28T12:00:00Z  finance  r2",
			"2026-10  failed: no disk     2026-11-01T00:00:00Z  finance  r1",
		}},
		{"export approve --period 2026-10", `{"period":"2026-10","stage":"awaiting_approval"}`, []string{"PERIOD   DONE      DECIDED IN", "2026-10  approved  awaiting_approval"}},
		{"export review --period 2026-10 --note x", `{"period":"2026-10","stage":"reviewing"}`, []string{"PERIOD   DONE      DECIDED IN", "2026-10  reviewed  reviewing"}},
		{"export parked --period 2026-10", `{"parked":[{"organization_id":"` + someID + `","organization_name":"Acme","attempts":2,"reason":"has no prices in CHF"}]}`, []string{
			"ORGANIZATION                          NAME  ATTEMPTS  REASON",
			someID + "  Acme  2         has no prices in CHF",
		}},
		{"credit list " + someID, `{"grants":[{"id":"` + someID + `","remaining":"5.00","amount":"10.00","currency":"USD","priority":50,"effective_at":"2026-10-01T00:00:00Z","note":"Order 7"}]}`, []string{
			"ID                                    REMAINING  OF     CURRENCY  PRIORITY  EFFECTIVE             EXPIRES  NOTE",
			someID + "  5.00       10.00  USD       50        2026-10-01T00:00:00Z  never    Order 7",
		}},
		{"webhook list", `{"webhooks":[
			{"id":"` + someID + `","url":"https://a.example","kinds":[]},
			{"id":"` + anotherID + `","url":"https://b.example","kinds":["export.closed","export.issued"],"disabled_at":"2026-11-01T00:00:00Z"}]}`, []string{
			"ID                                    URL                KINDS                        STATE",
			someID + "  https://a.example  all                          works",
			anotherID + "  https://b.example  export.closed export.issued  disabled 2026-11-01T00:00:00Z",
		}},
		{"keys revoke " + someID, `{}`, []string{"Revoked."}},
		{"webhook delete " + someID, `{}`, []string{"Deleted."}},
		{"webhook redeliver " + someID + " " + anotherID, `{"workflow_id":"delivery/7"}`, []string{"Trying: delivery/7"}},
		{"ready", `{}`, []string{"ready"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			s.answers(tt.answer)
			require.Equal(t, tt.want, lines(s.must(strings.Fields(tt.args)...)))
		})
	}
}

// lines are those of a text, without the blanks at their ends.
func lines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, strings.TrimRight(line, " \n"))
	}
	return out
}

// Programs read JSON: with --json, and wherever the output is no terminal.
func TestProgramsReadJSON(t *testing.T) {
	s := newShell(t)
	const organization = `{"id":"` + someID + `","name":"Acme","currency":"USD","plan":"free","created_at":"2026-10-02T08:00:00Z","updated_at":"2026-10-02T08:00:00Z"}`
	for _, tt := range []struct {
		args, answer, want string
		terminal           bool
	}{
		{"org show " + someID, organization, organization, false},
		{"org show --json " + someID, organization, organization, true},
		{"org list", `{"organizations":[` + organization + `]}`, `[` + organization + `]`, false},
		{"org list", `{}`, `[]`, false},
		{"keys list --json", `{"keys":[]}`, `[]`, true},
		{"export list --json", `{"exports":[]}`, `[]`, true},
		{"export variances --json --period 2026-10", `{"variances":[]}`, `{"variances":[]}`, true},
		{"export parked --json --period 2026-10", `{"parked":[]}`, `{"parked":[]}`, true},
		{"export corrections --json --period 2026-10", `{"statements":[]}`, `{"statements":[]}`, true},
		{"export deliveries --json --period 2026-10", `{"sink":"stripe","counts":{},"deliveries":[]}`, `{"sink":"stripe","counts":{"delivered":0,"no_customer":0,"nothing_due":0,"unchanged":0,"failed":0,"pending":0},"deliveries":[]}`, true},
		{"export explain --json --period 2026-10 " + someID, `{"explanation":[["1 × 2"]]}`, "", true},
	} {
		s.terminal = tt.terminal
		s.answers(tt.answer)
		printed := s.must(strings.Fields(tt.args)...)
		if tt.want == "" {
			require.Contains(t, printed, `"explanation": [`, tt.args)
			continue
		}
		require.JSONEq(t, tt.want, printed, tt.args)
		require.True(t, strings.HasSuffix(printed, "\n"), "a line ends")
	}
}

// An export's status says how far it is, and what it comes to.
func TestExportStatusForPeople(t *testing.T) {
	s := newShell(t)
	s.terminal = true
	s.answers(`{"period":"2026-10","stage":"rating","revision":2,"cut":"2026-11-01T00:00:00Z","requested_by":"finance","run_id":"r1",
		"progress":{"note":"making statements","done":3,"total":9},
		"counts":{"organizations":5,"statements":4,"parked":1,"variances":2},
		"manifest":{"money_totals":[{"currency":"USD","statements":4,"due":"249.00"}],"control_totals":[{"meter":"evaluations","value":"1100000","organizations":5}]}}`)
	require.Equal(t, []string{
		"PERIOD   STAGE   CUT                   BY       RUN",
		"2026-10  rating  2026-11-01T00:00:00Z  finance  r1",
		"",
		"making statements (3 of 9)",
		"",
		"revision 2: 4 statements of 5 organizations, 1 parked, 2 variances",
		"",
		"due: 249.00 USD on 4 statements",
		"evaluations: 1100000 over 5 organizations",
	}, lines(s.must("export", "status", "--period", "2026-10")))
}

func TestExportExplainForPeople(t *testing.T) {
	s := newShell(t)
	s.terminal = true
	s.answers(`{"statement":{"number":"TG-2026-10-000001","organization_name":"Acme","period":"2026-10","plan":"pro","currency":"USD",
		"lines":[{"description":"Base fee"},{"description":"Evaluations"}],"subtotal":"249.00","credits":"50.00","due":"199.00"},
		"explanation":[["49.00"],["1,000,000 × 0.0002","= 200.00"]]}`)
	require.Equal(t, []string{
		"TG-2026-10-000001 Acme · 2026-10 · pro", "",
		"Base fee", "    49.00",
		"Evaluations", "    1,000,000 × 0.0002", "    = 200.00",
		"", "Subtotal 249.00, credits 50.00, due 199.00 USD",
	}, lines(s.must("export", "explain", "--period", "2026-10", someID)))
}

// Only instances that are live are flushed, and the first failure ends it.
func TestFlushOfEveryLiveInstance(t *testing.T) {
	s := newShell(t)
	s.terminal = true
	s.answers(`{"instances":[{"id":"`+someID+`","status":"live"},{"id":"`+anotherID+`","status":"lost"},{"id":"`+anotherID+`","status":"live"}]}`,
		`{"seq":7,"rows":3,"watermark":"2026-11-28T12:00:00Z"}`, `{"seq":1,"rows":0,"watermark":"2026-11-28T12:00:01Z"}`)
	require.Equal(t, []string{
		"INSTANCE                              BATCH  ROWS  WATERMARK",
		someID + "  7      3     2026-11-28T12:00:00Z",
		anotherID + "  1      0     2026-11-28T12:00:01Z",
	}, lines(s.must("flush")))
	require.Equal(t, "POST instances/"+someID+"/flush", s.asked[1].line)

	s.asked = nil
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"instances":[{"id":"`+someID+`","status":"live"},{"id":"`+anotherID+`","status":"live"}]}`)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	code, stdout, stderr := s.run("flush")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "503")
	require.Len(t, s.asked, 2)
}

// The audit log is written to its end, a line an entry, as it is digested.
func TestAuditExport(t *testing.T) {
	s := newShell(t)
	entry := `{"id":"` + someID + `","at":"2026-11-28T10:00:00.123456Z","kind":"key","action":"created","subject":"k","organization_id":null,"actor_id":null,` +
		`"actor":"a","owner":"","role":"","address":"","request_id":"","login":"tollgate_api","before":null,"after":{"a":1.50}}`
	s.answers(`{"entries":[`+entry+`],"next":"`+someID+`"}`, `{"entries":[`+entry+`]}`)
	require.Equal(t, entry+"\n"+entry+"\n", s.must("audit", "export", "--kind", "key"))
	require.Contains(t, s.asked[1].line, "before="+someID)
}

// Lists are read to their last page, and shown as one.
func TestListsAreReadToTheirEnd(t *testing.T) {
	s := newShell(t)
	for _, tt := range []struct {
		args, path, member, item string
	}{
		{"org list", "organizations?", "organizations", `{"id":"%"}`},
		{"credit entries " + someID, "organizations/" + someID + "/credits/entries?", "entries", `{"id":"%"}`},
		{"quarantine list --all", "quarantine?", "quarantined", `{"id":"%"}`},
		{"export deliveries --period 2026-10", "billing/exports/2026-10/deliveries?", "deliveries", `{"organization_id":"%"}`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			s.asked = nil
			page := func(id, next string) string {
				return `{"` + tt.member + `":[` + strings.ReplaceAll(tt.item, "%", id) + `]` + next + `}`
			}
			s.answers(page(someID, `,"next":"`+someID+`"`), page(anotherID, ""))
			printed := s.must(strings.Fields(tt.args)...)
			require.Contains(t, printed, someID)
			require.Contains(t, printed, anotherID)
			require.NotContains(t, printed, `"next"`)
			require.Len(t, s.asked, 2)
			for i, asked := range s.asked {
				require.Contains(t, asked.line, "GET "+tt.path)
				require.Contains(t, asked.line, "limit=1000")
				require.Equal(t, i == 1, strings.Contains(asked.line, "after="+someID), asked.line)
			}
		})
	}
}

// Credit that takes a second person isn't printed as granted.
func TestProposedCreditIsShownAsProposed(t *testing.T) {
	s := newShell(t)
	s.terminal = true
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"id":"`+anotherID+`","kind":"credit_grant","state":"open","proposed_by":{"owner":"mara"},"proposed_at":"2026-11-01T00:00:00Z","note":"x"}`)
	}
	printed := lines(s.must(strings.Fields("credit grant " + someID + " 5 --currency USD --note x")...))
	require.Equal(t, []string{
		"ID                                    KIND          STATE  PROPOSED BY  AT                    DECIDED BY  NOTE",
		anotherID + "  credit_grant  open   mara         2026-11-01T00:00:00Z  –           x",
	}, printed)
}
