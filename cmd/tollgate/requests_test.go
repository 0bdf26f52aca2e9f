package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each command asks the API for what its flags say, and for nothing else.
func TestRequestsSayWhatTheFlagsSay(t *testing.T) {
	s := newShell(t)
	settings := func(more string) string {
		return `{` + more + `"documents":{"focus":"1.2","issuer":"Tollgate"},"variance":{"percent":50,"least":"1"}}`
	}
	exports := "billing/exports/2026-10"
	for _, tt := range []struct {
		// args are separated by blanks; _ stands for a blank within one.
		args, line, body string
	}{
		{"org create --name Acme", "POST organizations", `{"name":"Acme","currency":"USD"}`},
		{
			"org create --name Acme_Ltd --plan pro --currency EUR --effective-at 2026-10-01T00:00:00+02:00", "POST organizations",
			`{"name":"Acme Ltd","plan":"pro","currency":"EUR","effective_at":"2026-10-01T00:00:00+02:00"}`,
		},
		{"org list --search Ac_me", "GET organizations?limit=1000&search=Ac+me", ""},
		{"org show " + someID, "GET organizations/" + someID, ""},
		{"org set " + someID, "PATCH organizations/" + someID, `{}`},
		{"org set " + someID + " --name= --plan free", "PATCH organizations/" + someID, `{"name":"","plan":"free"}`},
		{"org plan " + someID + " pro", "POST organizations/" + someID + "/upgrade", `{"plan":"pro"}`},
		{"org plan " + someID + " pro --at 2027-01-01T00:00:00Z", "POST organizations/" + someID + "/upgrade", `{"plan":"pro","effective_at":"2027-01-01T00:00:00Z"}`},
		{"org plan " + someID + " --keep", "DELETE organizations/" + someID + "/upgrade", ""},
		{"org end " + someID, "POST organizations/" + someID + "/end", `{}`},
		{"org end " + someID + " --at 2027-01-01T00:00:00Z --note moved", "POST organizations/" + someID + "/end", `{"effective_at":"2027-01-01T00:00:00Z","note":"moved"}`},
		{"org end " + someID + " --keep", "DELETE organizations/" + someID + "/end", ""},
		{"org customer " + someID + " stripe C1", "PUT organizations/" + someID + "/customers/stripe", `{"external_id":"C1"}`},
		{"keys create --name x --organization " + someID, "POST organizations/" + someID + "/keys", `{"name":"x"}`},
		{"keys create --name x --role finance --owner ada", "POST keys", `{"name":"x","owner":"ada","role":"finance"}`},
		{"keys list", "GET keys", ""},
		{"keys list --organization " + someID, "GET organizations/" + someID + "/keys", ""},
		{"keys revoke " + someID, "DELETE keys/" + someID, ""},
		{"usage", "GET usage", ""},
		{"usage history --meter a&b --from 2026-10-01 --to 2026-10-31", "GET usage/history?from=2026-10-01&granularity=day&meter=a%26b&to=2026-10-31", ""},
		{"flush " + someID, "POST instances/" + someID + "/flush", ""},
		{"export start --no-wait --period 2026-10", "POST billing/exports", settings(`"period":"2026-10",`)},
		{
			"export start --no-wait --period 2026-10 --variance-percent 5 --variance-least 0.5 --compress --focus 1.4 --issuer Riverline", "POST billing/exports",
			`{"period":"2026-10","documents":{"compress":true,"focus":"1.4","issuer":"Riverline"},"variance":{"percent":5,"least":"0.5"}}`,
		},
		{"export status --period 2026-10", "GET " + exports, ""},
		{"export status --period 2026-10 --revision 2", "GET " + exports + "?revision=2", ""},
		{"export list", "GET billing/exports?limit=1000", ""},
		{"export variances --period 2026-10", "GET " + exports + "/variances?limit=1000", ""},
		{"export parked --period 2026-10 --revision 2", "GET " + exports + "/parked?limit=1000&revision=2", ""},
		{"export corrections --period 2026-10", "GET " + exports + "/corrections?limit=1000", ""},
		{"export decisions --period 2026-10", "GET " + exports + "/decisions", ""},
		{"export explain --period 2026-10 " + someID, "GET " + exports + "/statements/" + someID, ""},
		{"export review --period 2026-10 --note seen", "POST " + exports + "/review", `{"note":"seen"}`},
		{"export approve --period 2026-10", "POST " + exports + "/approve", `{"note":"","without_parked":false}`},
		{"export approve --period 2026-10 --without-parked", "POST " + exports + "/approve", `{"note":"","without_parked":true}`},
		{"export reject --period 2026-10 --note wrong", "POST " + exports + "/reject", `{"note":"wrong"}`},
		{"export continue --period 2026-10 --note gone", "POST " + exports + "/continue", `{"note":"gone"}`},
		{"export cancel --period 2026-10", "POST " + exports + "/cancel", `{"note":""}`},
		{"export retry --period 2026-10", "POST " + exports + "/retry", `{"note":""}`},
		{"export reopen --period 2026-10 --note late", "POST " + exports + "/reopen", settings(`"note":"late",`)},
		{"export deliver --period 2026-10", "POST " + exports + "/deliver", ""},
		{"export deliveries --period 2026-10", "GET " + exports + "/deliveries?limit=1000&sink=stripe", ""},
		{"export deliveries --period 2026-10 --state failed --revision 2", "GET " + exports + "/deliveries?limit=1000&revision=2&sink=stripe&state=failed", ""},
		{"proposal list", "GET proposals?limit=1000&state=pending", ""},
		{"proposal show " + someID, "GET proposals/" + someID, ""},
		{"proposal approve " + someID, "POST proposals/" + someID + "/approve", `{"note":""}`},
		{"proposal reject " + someID + " --note no", "POST proposals/" + someID + "/reject", `{"note":"no"}`},
		{"audit list", "GET audit?limit=20", ""},
		{
			"audit list --actor " + someID + " --organization " + anotherID + " --kind key --since 2026-11-01T01:00:00+01:00 --limit 5",
			"GET audit?actor=" + someID + "&kind=key&limit=5&organization_id=" + anotherID + "&since=2026-11-01T00%3A00%3A00Z", "",
		},
		{"quarantine list", "GET quarantine?limit=1000&state=quarantined", ""},
		{"quarantine list --all --organization " + someID, "GET quarantine?limit=1000&organization_id=" + someID, ""},
		{"quarantine apply " + someID + " --note mended", "POST quarantine/" + someID + "/apply", `{"note":"mended"}`},
		{"quarantine drop " + someID + " --note gone", "POST quarantine/" + someID + "/drop", `{"note":"gone"}`},
		{"credit grant " + someID + " 5000.00 --currency USD --note order", "POST organizations/" + someID + "/credits", `{"amount":"5000.00","currency":"USD","note":"order"}`},
		{
			"credit grant " + someID + " 5 --currency USD --note x --priority 0 --effective-at 2026-10-01T00:00:00Z --expires-at 2027-10-01T02:00:00+02:00",
			"POST organizations/" + someID + "/credits",
			`{"amount":"5","currency":"USD","note":"x","priority":0,"effective_at":"2026-10-01T00:00:00Z","expires_at":"2027-10-01T02:00:00+02:00"}`,
		},
		{"credit void " + someID + " --note twice", "POST credits/" + someID + "/void", `{"note":"twice"}`},
		{"webhook create https://example.com/in", "POST webhooks", `{"url":"https://example.com/in"}`},
		{
			"webhook create https://example.com/in --kinds export.closed,export.issued --description ours", "POST webhooks",
			`{"url":"https://example.com/in","kinds":["export.closed","export.issued"],"description":"ours"}`,
		},
		{"webhook rotate " + someID, "POST webhooks/" + someID + "/rotate", ""},
		{"webhook delete " + someID, "DELETE webhooks/" + someID, ""},
		{"webhook deliveries " + someID + " --limit 5", "GET webhooks/" + someID + "/deliveries?limit=5", ""},
		{"webhook redeliver " + someID + " " + anotherID, "POST webhooks/" + someID + "/deliveries/" + anotherID + "/redeliver", ""},
		{"events --kind export.closed", "GET events?kind=export.closed&limit=20", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			s.asked = nil
			args := strings.Fields(tt.args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "_", " ")
			}
			code, _, stderr := s.run(args...)
			require.Zero(t, code, stderr)
			require.Len(t, s.asked, 1)
			require.Equal(t, tt.line, s.asked[0].line)
			if tt.body == "" {
				require.Empty(t, s.asked[0].body)
			} else {
				require.JSONEq(t, tt.body, s.asked[0].body)
			}
		})
	}
}
