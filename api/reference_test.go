package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/internal/reference"
)

// help says what a code means, and what who gets it does.
type help struct{ means, do string }

// helps are of every code that is answered with. Codes and statuses are the code's.
var helps = map[string]help{
	"plan_limit_exceeded":           {"A hard limit of the plan would be passed. Nothing was counted.", "Wait for the next window, or change the plan (`upgrade_url`): the same request passes then."},
	"rate_limited":                  {"Requests come faster than the plan's rate limit.", "Wait for `Retry-After`; spread requests, or send batches."},
	"quantity_overflow":             {"The sum of a day can't take the quantity.", "Look at the quantity: it is likely wrong. Sums of a day go to 10^17."},
	"contract_ended":                {"The organization has no contract at this time: its keys don't work.", "Ask the operator; a new contract is begun by `tollgate org plan`."},
	"unauthorized":                  {"There is no key, or it doesn't work.", "Send `Authorization: Bearer tg_…`. A key that has worked was revoked: get another one."},
	"not_metered":                   {"No rule says what a request to the gateway is charged for.", "Look at the path; the operator adds a rule (`--gateway-rules`)."},
	"invalid_path":                  {"The path can be read in more than one way.", "Send it without dots, double escapes or empty parts."},
	"body_too_large":                {"The body is larger than the route takes.", "Send smaller ones: nothing of it was counted."},
	"upstream_unavailable":          {"The gateway's upstream can't be reached. Nothing was counted.", "Try again; the operator looks at the upstream."},
	"upstream_timeout":              {"The gateway's upstream didn't answer in time. Nothing was counted.", "Try again, if your request may be done twice."},
	"body_stalled":                  {"The body brought nothing for too long.", "Send it again, on a connection that works."},
	"unavailable":                   {"A part that this needs is away. Nothing was done.", "Wait for `Retry-After`, and send it again."},
	"quota_refused":                 {"The database answers, and grants no quota of the limit. Nothing was counted.", "Try again. Where it stays, the operator looks at [the runbook](../runbook.md#what-to-do)."},
	"overloaded":                    {"There is more to do than can be done. Nothing was counted.", "Wait for `Retry-After`; the operator looks at [overload](../runbook.md#overload)."},
	"internal_error":                {"A defect, or a wrong configuration.", "Give the operator the `request_id`: the log has the details."},
	"contract_ends":                 {"The end of the contract is set, and what was asked doesn't go with it.", "Take the end back first: `tollgate org end --keep`."},
	"plan_not_self_service":         {"The plan is had by agreement.", "Ask the operator."},
	"current_plan_not_self_service": {"The plan in force is left by agreement.", "Ask the operator."},
	"effective_at_not_allowed":      {"A tenant doesn't choose when a plan begins.", "Leave `effective_at` out."},
	"effective_at_in_the_past":      {"Only a first plan may be dated back.", "Give a time to come, or none."},
	"scheduled_by_administrator":    {"An administrator has set a change that a tenant can't replace.", "Ask the operator."},
	"plan_without_currency":         {"The plan has no prices in the organization's currency.", "Choose another plan; the operator publishes a price book."},
	"period_closed":                 {"The time is in a month that is closed.", "Give a later time, or reopen the month."},
	"organization_has_usage":        {"A first plan can't be dated back once there is usage.", "Leave it: usage counts for the plan that admitted it."},
	"too_many_plan_changes":         {"The organization changes its plan more often than it may by itself.", "Wait for `Retry-After`, or ask the operator."},
	"self_approval":                 {"Who asked for it can't approve it, with any key of his or one that he made.", "Let somebody else approve it ([four eyes](../close.md#four-eyes-are-two-people))."},
	"variances_not_reviewed":        {"The export has variances that nobody has accepted.", "`tollgate export variances`, then `tollgate export review --note`."},
	"organizations_parked":          {"Organizations could not be rated.", "`tollgate export parked`, mend it, `tollgate export retry`; or approve without them."},
	"not_awaiting_decision":         {"The export isn't in a stage in which that is decided.", "Look at `tollgate export status`."},
	"unknown_actor":                 {"Who decides has no key that works.", "Use a key of finance that isn't revoked."},
	"invalid_request":               {"A field, parameter or path breaks a rule; `field` names it.", "Mend it: the message has the rule."},
	"forbidden":                     {"The key's role, or its organization, may not do this.", "Use a key of another role ([who may do what](../security.md#who-may-do-what))."},
	"not_found":                     {"It isn't there; to a tenant, what is another's isn't either.", "Look at the identity that you gave."},
	"method_not_allowed":            {"The route has other methods: `Allow` lists them.", "Use one of those."},
	"conflict":                      {"The thing is not in a state for this.", "The message says which; look at it again before you go on."},
	"unsupported_media_type":        {"The body isn't of a form that the route takes.", "Send `Content-Type: application/json`, or what the message names."},
	"idempotency_key_reused":        {"The key was used with another request. Nothing was done.", "Make a key for each request, and keep it for its repetitions alone."},
	"request_under_way":             {"The same request is under way.", "Wait for `Retry-After`, and send the same again: it gets the first one's answer."},
	"reservation_ended":             {"The reservation was settled otherwise, or has expired.", "Look at it: `GET /api/v1/reservations/{id}`. Report what was used beyond it."},
	"quarantine_refused":            {"Postgres still refuses what was set aside.", "Mend the reason that the message gives, or drop it."},
	"cost_limited":                  {"The organization's requests cost more than they may.", "Wait for `Retry-After`; ask for less at once. The API reference has the costs (`x-tollgate-cost`)."},
	"redelivered_too_often":         {"Too many deliveries were asked for.", "Wait for `Retry-After`: deliveries are tried again by themselves, too."},
	"too_many_under_way":            {"The caller has as many requests under way as it may have.", "Wait for answers, and hold fewer connections."},
	"too_many_unknown_keys":         {"Too many keys from this address don't work.", "Look at what sends them. Keys that work are not held up."},
}

// TestReferenceOfErrors makes docs/reference/errors.md, with each code that is answered with.
func TestReferenceOfErrors(t *testing.T) {
	statuses := statusesOfCodes(t)
	require.Equal(t, slices.Sorted(maps.Keys(helps)), slices.Sorted(maps.Keys(statuses)), "each code has its help")
	var out strings.Builder
	out.WriteString("# Errors\n\n" + reference.Prose("An error is `application/problem+json` (RFC 9457). Its `error` is one of these codes, and never changes "+
		"its meaning; `message` and `detail` are for people, `request_id` is what the log has. The command prints the same. An answer "+
		"without a code of this list is not Tollgate's.") + "\n" + reference.Head("code", "status", "means", "do"))
	for _, code := range slices.Sorted(maps.Keys(helps)) {
		out.WriteString(reference.Row(reference.Code(code), strings.Join(slices.Sorted(maps.Keys(statuses[code])), ", "), helps[code].means, helps[code].do))
	}
	reference.Hold(t, "errors", out.String())
}

// statusesOfCodes reads the constants of codes, and with which status each is answered.
func statusesOfCodes(t *testing.T) map[string]map[string]bool {
	t.Helper()
	named, source := map[string]string{}, ""
	for _, folder := range []string{"../gate", "../accounts", "."} {
		files, err := filepath.Glob(folder + "/*.go")
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			source += string(text)
			readCodes(t, file, text, named)
		}
	}
	out := map[string]map[string]bool{}
	add := func(code string, status int) {
		if out[code] == nil {
			out[code] = map[string]bool{}
		}
		out[code][strconv.Itoa(status)] = true
	}
	for _, code := range named {
		switch {
		case accountsCodes[code]:
			add(code, contractProblem(&accounts.Refusal{Code: code}).Status)
		case decisionCodes[code]:
			add(code, decisionProblem(&RefusedDecision{Code: code, Message: "m"}).Status)
		}
	}
	for _, found := range regexp.MustCompile(`http\.Status(\w+), (?:gate\.|accounts\.)?([Cc]ode[A-Z]\w*)`).FindAllStringSubmatch(source, -1) {
		if code := named[found[2]]; code != "" {
			add(code, statusNamed(t, found[1]))
		}
	}
	return out
}

// accountsCodes are those of [accounts.Refusal], decisionCodes those of [RefusedDecision].
var (
	accountsCodes = map[string]bool{
		accounts.CodeContractEnds: true, accounts.CodePlanNotSelfService: true, accounts.CodeLeavesNoSelfService: true, accounts.CodeEffectiveAtNotTaken: true,
		accounts.CodeEffectiveAtPast: true, accounts.CodeScheduledByAdmin: true, accounts.CodePlanWithoutCurrency: true, accounts.CodePeriodClosed: true,
		accounts.CodeOrganizationHasUsage: true, accounts.CodeTooManyPlanChanges: true, accounts.CodeContractEnded: true,
	}
	decisionCodes = map[string]bool{CodeSelfApproval: true, CodeNotReviewed: true, CodeParked: true, CodeNotAwaiting: true, CodeNoActor: true}
)

func readCodes(t *testing.T, file string, text []byte, named map[string]string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !regexp.MustCompile(`^[Cc]ode[A-Z]`).MatchString(spec.Names[0].Name) {
			return true
		}
		if value, ok := spec.Values[0].(*ast.BasicLit); ok && value.Kind == token.STRING {
			code, err := strconv.Unquote(value.Value)
			require.NoError(t, err)
			named[spec.Names[0].Name] = code
		}
		return true
	})
}

// statusNamed is the status of a constant's name: "BadRequest" is 400.
func statusNamed(t *testing.T, name string) int {
	t.Helper()
	for status := 100; status < 600; status++ {
		if strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(status)) == name {
			return status
		}
	}
	require.FailNow(t, "no status is named "+name)
	return 0
}
