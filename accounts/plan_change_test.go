package accounts_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
)

// offers are a free plan, two that organizations may take, of which gold costs nothing in
// euros, and one by agreement.
func offers(currency string) map[string]accounts.Offer {
	return map[string]accounts.Offer{
		"free": {SelfService: true, Rank: 1, Billable: true},
		"pro":  {SelfService: true, Rank: 2, Billable: true},
		"gold": {SelfService: true, Rank: 3, Billable: currency == "USD"},
		"plus": {SelfService: true, Rank: 2, Billable: true},
		"deal": {Rank: 4, Billable: true},
	}
}

var begin = time.Date(2026, 11, 10, 9, 0, 0, 0, time.UTC)

func on(day int) time.Time { return time.Date(2026, 11, day, 12, 0, 0, 0, time.UTC) }

func TestChangeOfPlan(t *testing.T) {
	t.Parallel()
	december := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	term := func(from time.Time, plan string) accounts.Term { return accounts.Term{From: from, Plan: plan} }
	own := func(from time.Time, plan string) accounts.Term {
		return accounts.Term{From: from, Plan: plan, ByTenant: true}
	}
	tenant := func(plan string) accounts.Request {
		return accounts.Request{Action: accounts.ChangePlan, ByTenant: true, Plan: plan}
	}
	admin := func(plan string, at time.Time) accounts.Request {
		return accounts.Request{Action: accounts.ChangePlan, Plan: plan, At: at}
	}
	end := func(at time.Time) accounts.Request { return accounts.Request{Action: accounts.EndContract, At: at} }
	free, pro, deal := term(begin, "free"), term(begin, "pro"), term(begin, "deal")
	ended := accounts.Contract{pro, term(on(20), "")}
	now := on(25)
	for name, tt := range map[string]struct {
		contract accounts.Contract
		request  accounts.Request
		facts    accounts.Facts
		want     accounts.Contract
		code     string
	}{
		"an upgrade is in force at once":               {contract: accounts.Contract{free}, request: tenant("pro"), want: accounts.Contract{free, own(now, "pro")}},
		"a downgrade waits for the month's end":        {contract: accounts.Contract{pro}, request: tenant("free"), want: accounts.Contract{pro, own(december, "free")}},
		"so does a plan of the same rank":              {contract: accounts.Contract{pro}, request: tenant("plus"), want: accounts.Contract{pro, own(december, "plus")}},
		"a later downgrade replaces one":               {contract: accounts.Contract{term(begin, "gold"), own(december, "free")}, request: tenant("pro"), want: accounts.Contract{term(begin, "gold"), own(december, "pro")}},
		"the plan in force takes a change back":        {contract: accounts.Contract{pro, own(december, "free")}, request: tenant("pro"), want: accounts.Contract{pro}},
		"keeping it, too":                              {contract: accounts.Contract{pro, own(december, "free")}, request: accounts.Request{Action: accounts.KeepPlan, ByTenant: true}, want: accounts.Contract{pro}},
		"an upgrade drops the downgrade":               {contract: accounts.Contract{pro, own(december, "free")}, request: tenant("gold"), want: accounts.Contract{pro, own(now, "gold")}},
		"the plan in force is no change":               {contract: accounts.Contract{pro}, request: tenant("pro"), want: accounts.Contract{pro}},
		"also where it is by agreement":                {contract: accounts.Contract{deal}, request: tenant("deal"), want: accounts.Contract{deal}},
		"a plan by agreement isn't taken":              {contract: accounts.Contract{pro}, request: tenant("deal"), code: accounts.CodePlanNotSelfService},
		"nor left":                                     {contract: accounts.Contract{deal}, request: tenant("free"), code: accounts.CodeLeavesNoSelfService},
		"a tenant sets no time":                        {contract: accounts.Contract{free}, request: accounts.Request{Action: accounts.ChangePlan, ByTenant: true, Plan: "pro", At: on(30)}, code: accounts.CodeEffectiveAtNotTaken},
		"a plan has no prices in the currency":         {contract: accounts.Contract{pro}, request: tenant("gold"), facts: accounts.Facts{Currency: "EUR"}, code: accounts.CodePlanWithoutCurrency},
		"for administrators neither":                   {contract: accounts.Contract{pro}, request: admin("gold", time.Time{}), facts: accounts.Facts{Currency: "EUR"}, code: accounts.CodePlanWithoutCurrency},
		"what an administrator has set stays":          {contract: accounts.Contract{pro, term(on(28), "deal")}, request: tenant("free"), code: accounts.CodeScheduledByAdmin},
		"and isn't taken back by a tenant":             {contract: accounts.Contract{pro, term(on(28), "deal")}, request: accounts.Request{Action: accounts.KeepPlan, ByTenant: true}, code: accounts.CodeScheduledByAdmin},
		"who has the plan in force already":            {contract: accounts.Contract{pro, term(on(28), "deal")}, request: tenant("pro"), want: accounts.Contract{pro, term(on(28), "deal")}},
		"an upgrade doesn't wait for it":               {contract: accounts.Contract{pro, term(on(28), "deal")}, request: tenant("gold"), want: accounts.Contract{pro, own(now, "gold"), term(on(28), "deal")}},
		"an administrator changes to any plan at once": {contract: accounts.Contract{deal}, request: admin("free", time.Time{}), want: accounts.Contract{deal, term(now, "free")}},
		"or later":                                          {contract: accounts.Contract{free}, request: admin("deal", on(28)), want: accounts.Contract{free, term(on(28), "deal")}},
		"replacing what is pending":                         {contract: accounts.Contract{pro, own(december, "free")}, request: admin("deal", on(28)), want: accounts.Contract{pro, term(on(28), "deal")}},
		"never in the past":                                 {contract: accounts.Contract{term(on(1), "free"), pro}, request: admin("deal", on(20)), code: accounts.CodeEffectiveAtPast},
		"a first plan is dated back":                        {contract: accounts.Contract{pro}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true}, want: accounts.Contract{term(on(2), "pro")}},
		"not to another plan":                               {contract: accounts.Contract{pro}, request: admin("free", on(2)), facts: accounts.Facts{FirstTerm: true}, code: accounts.CodeEffectiveAtPast},
		"not forward":                                       {contract: accounts.Contract{pro}, request: admin("pro", on(12)), facts: accounts.Facts{FirstTerm: true}, code: accounts.CodeEffectiveAtPast},
		"not where it isn't the first":                      {contract: accounts.Contract{pro}, request: admin("pro", on(2)), code: accounts.CodeEffectiveAtPast},
		"not after usage":                                   {contract: accounts.Contract{pro}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true, Used: true}, code: accounts.CodeOrganizationHasUsage},
		"not in a closed month":                             {contract: accounts.Contract{pro}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true, Closed: "2026-11"}, code: accounts.CodePeriodClosed},
		"a first plan that is pending is dated back":        {contract: accounts.Contract{term(on(28), "pro")}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true}, want: accounts.Contract{term(on(2), "pro")}},
		"also to another plan":                              {contract: accounts.Contract{term(on(28), "pro")}, request: admin("free", on(2)), facts: accounts.Facts{FirstTerm: true}, want: accounts.Contract{term(on(2), "free")}},
		"with its end":                                      {contract: accounts.Contract{term(on(28), "pro"), term(on(29), "")}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true}, want: accounts.Contract{term(on(2), "pro"), term(on(29), "")}},
		"not after usage, too":                              {contract: accounts.Contract{term(on(28), "pro")}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true, Used: true}, code: accounts.CodeOrganizationHasUsage},
		"nor in a closed month":                             {contract: accounts.Contract{term(on(28), "pro")}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true, Closed: "2026-11"}, code: accounts.CodePeriodClosed},
		"nor after a contract that ended before it began":   {contract: accounts.Contract{term(on(20), "")}, request: admin("pro", on(2)), facts: accounts.Facts{FirstTerm: true}, code: accounts.CodeEffectiveAtPast},
		"an end drops what would come":                      {contract: accounts.Contract{pro, own(december, "free")}, request: end(time.Time{}), want: accounts.Contract{pro, term(now, "")}},
		"and leaves what comes before it":                   {contract: accounts.Contract{pro, own(december, "free")}, request: end(december.AddDate(0, 1, 0)), want: accounts.Contract{pro, own(december, "free"), term(december.AddDate(0, 1, 0), "")}},
		"an end is moved":                                   {contract: accounts.Contract{pro, term(on(28), "")}, request: end(on(29)), want: accounts.Contract{pro, term(on(29), "")}},
		"or comes at once":                                  {contract: accounts.Contract{pro, term(on(28), "")}, request: end(time.Time{}), want: accounts.Contract{pro, term(now, "")}},
		"twice it answers the same":                         {contract: ended, request: end(time.Time{}), want: ended},
		"never in the past, too":                            {contract: accounts.Contract{pro}, request: end(on(20)), code: accounts.CodeEffectiveAtPast},
		"an end is taken back":                              {contract: accounts.Contract{pro, term(on(28), "")}, request: accounts.Request{Action: accounts.KeepContract}, want: accounts.Contract{pro}},
		"not once it is there":                              {contract: ended, request: accounts.Request{Action: accounts.KeepContract}, code: accounts.CodeContractEnded},
		"then a plan begins a new contract":                 {contract: ended, request: admin("pro", time.Time{}), want: append(slices.Clone(ended), term(now, "pro"))},
		"by an administrator":                               {contract: ended, request: tenant("pro"), code: accounts.CodeContractEnded},
		"a change after the end isn't made":                 {contract: accounts.Contract{pro, term(on(28), "")}, request: admin("deal", on(29)), code: accounts.CodeContractEnds},
		"nor a downgrade":                                   {contract: accounts.Contract{pro, term(on(28), "")}, request: tenant("free"), code: accounts.CodeContractEnds},
		"an upgrade before the end is":                      {contract: accounts.Contract{pro, term(on(28), "")}, request: tenant("gold"), want: accounts.Contract{pro, own(now, "gold"), term(on(28), "")}},
		"two changes at one time are in order":              {contract: accounts.Contract{term(now, "free")}, request: tenant("pro"), want: accounts.Contract{term(now, "free"), own(now.Add(time.Microsecond), "pro")}},
		"a pending plan that is there already says nothing": {contract: accounts.Contract{free, term(on(28), "pro")}, request: tenant("pro"), want: accounts.Contract{free, own(now, "pro")}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.facts.Now = now
			if tt.facts.Currency == "" {
				tt.facts.Currency = accounts.DefaultCurrency
			}
			tt.facts.Offers = offers(tt.facts.Currency)
			before := slices.Clone(tt.contract)
			got, err := tt.contract.Change(tt.request, tt.facts)
			require.Equal(t, before, tt.contract, "it is not written to")
			var refusal *accounts.Refusal
			if tt.code != "" {
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, tt.code, refusal.Code, refusal.Message)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
	_, err := accounts.Contract{free}.Change(tenant("silver"), accounts.Facts{Now: now, Offers: offers("USD")})
	var field *fault.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, "plan", field.Field)
	require.Contains(t, field.Rule, `"silver"`)
}

func TestTenantsChangeTheirPlanAtARate(t *testing.T) {
	t.Parallel()
	now := on(25)
	facts := accounts.Facts{Now: now, Offers: offers("USD"), Currency: "USD"}
	for i := range accounts.MaxTenantChanges {
		facts.Changes = append(facts.Changes, now.Add(-50*time.Minute).Add(time.Duration(i)*time.Minute))
	}
	contract := accounts.Contract{{From: begin, Plan: "free"}}
	request := accounts.Request{Action: accounts.ChangePlan, ByTenant: true, Plan: "pro"}
	_, err := contract.Change(request, facts)
	var refusal *accounts.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, accounts.CodeTooManyPlanChanges, refusal.Code)
	require.Equal(t, 10*time.Minute, refusal.RetryAfter)

	request.Plan = "free"
	_, err = contract.Change(request, facts)
	require.NoError(t, err, "what changes nothing costs nothing")
	request.ByTenant, request.Plan = false, "pro"
	_, err = contract.Change(request, facts)
	require.NoError(t, err, "administrators are not bound")
	request.ByTenant, facts.Changes = true, facts.Changes[1:]
	_, err = contract.Change(request, facts)
	require.NoError(t, err)

	// Ten an hour, hour after hour, are thousands of terms that a close would rate.
	facts.Changes = nil
	for i := range accounts.MaxTenantChangesMonthly {
		facts.Changes = append(facts.Changes, now.Add(-29*24*time.Hour).Add(time.Duration(i)*7*time.Hour/2))
	}
	_, err = contract.Change(request, facts)
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, 24*time.Hour, refusal.RetryAfter)
	require.Contains(t, refusal.Message, "100 times in 30 days")
	facts.Changes = facts.Changes[1:]
	_, err = contract.Change(request, facts)
	require.NoError(t, err)
}

// simple is the model of a contract: the plan in force, one change to come, and an end.
type simple struct {
	plan    string
	pending accounts.Term
	end     time.Time
}

// at lets what is to come come into force.
func (s *simple) at(now time.Time) {
	if !s.pending.From.IsZero() && !s.pending.From.After(now) {
		s.plan, s.pending = s.pending.Plan, accounts.Term{}
	}
	if !s.end.IsZero() && !s.end.After(now) {
		*s = simple{}
	}
}

// do carries a request out, or returns the code of its refusal.
func (s *simple) do(r accounts.Request, known map[string]accounts.Offer, now time.Time) string {
	month := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	foreign := s.pending.Plan != "" && !s.pending.ByTenant && r.ByTenant
	switch {
	case r.ByTenant && s.plan == "":
		return accounts.CodeContractEnded
	case r.Action == accounts.EndContract:
		if s.plan == "" {
			s.pending = accounts.Term{}
			return ""
		}
		if r.At.IsZero() {
			*s = simple{}
			return ""
		}
		if s.end = r.At; !s.pending.From.Before(r.At) {
			s.pending = accounts.Term{}
		}
		return ""
	case r.Action == accounts.KeepContract:
		if s.plan == "" {
			return accounts.CodeContractEnded
		}
		s.end = time.Time{}
		return ""
	case !r.ByTenant && r.Action == accounts.ChangePlan && !s.end.IsZero() && !r.At.IsZero() && !r.At.Before(s.end):
		return accounts.CodeContractEnds
	case r.Action == accounts.KeepPlan || r.Plan == s.plan:
		if foreign && r.Action == accounts.KeepPlan {
			return accounts.CodeScheduledByAdmin
		}
		if foreign {
			return ""
		}
		s.pending = accounts.Term{}
		return ""
	case r.ByTenant && !known[s.plan].SelfService:
		return accounts.CodeLeavesNoSelfService
	case r.ByTenant && !known[r.Plan].SelfService:
		return accounts.CodePlanNotSelfService
	}
	upgrade := known[r.Plan].Rank > known[s.plan].Rank
	at := r.At
	switch {
	case r.ByTenant && !upgrade && foreign:
		return accounts.CodeScheduledByAdmin
	case r.ByTenant && !upgrade && !s.end.IsZero() && !s.end.After(month):
		return accounts.CodeContractEnds
	case r.ByTenant && !upgrade:
		at = month
	}
	if !at.IsZero() {
		s.pending = accounts.Term{From: at, Plan: r.Plan, ByTenant: r.ByTenant}
		return ""
	}
	if s.plan = r.Plan; !foreign || s.pending.Plan == r.Plan {
		s.pending = accounts.Term{}
	}
	return ""
}

// A contract is what a simple model says, whatever is asked of it, and what was in force
// stays as it was.
func TestContractFollowsItsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		known := offers("USD")
		plans := []string{"free", "pro", "plus", "gold", "deal"}
		now := begin
		first := rapid.SampledFrom(plans).Draw(rt, "first")
		contract := accounts.Contract{{From: begin, Plan: first}}
		model := simple{plan: first}
		for range rapid.IntRange(1, 30).Draw(rt, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(12*24*time.Hour)).Draw(rt, "later"))).Truncate(time.Microsecond).Add(time.Microsecond)
			model.at(now)
			r := accounts.Request{
				Action:   rapid.SampledFrom([]accounts.Action{accounts.ChangePlan, accounts.ChangePlan, accounts.ChangePlan, accounts.KeepPlan, accounts.EndContract, accounts.KeepContract}).Draw(rt, "action"),
				ByTenant: rapid.Bool().Draw(rt, "by tenant"),
			}
			if r.Action == accounts.EndContract || r.Action == accounts.KeepContract {
				r.ByTenant = false
			}
			if r.Action == accounts.ChangePlan {
				r.Plan = rapid.SampledFrom(plans).Draw(rt, "plan")
			}
			if !r.ByTenant && r.Action != accounts.KeepPlan && r.Action != accounts.KeepContract && rapid.Bool().Draw(rt, "scheduled") {
				r.At = now.Add(time.Duration(rapid.Int64Range(0, 40*24).Draw(rt, "hours")) * time.Hour)
				if r.At.Equal(now) {
					r.At = time.Time{}
				}
			}
			before := contract.At(now)
			code := model.do(r, known, now)
			changed, err := contract.Change(r, accounts.Facts{Now: now, Offers: known, Currency: "USD"})
			var refusal *accounts.Refusal
			if errors.As(err, &refusal) {
				require.Equal(rt, code, refusal.Code, "%+v of %v", r, contract)
				continue
			}
			require.NoError(rt, err)
			require.Empty(rt, code, "%+v of %v", r, contract)
			checkContract(rt, contract, changed, now)
			again, err := changed.Change(r, accounts.Facts{Now: now, Offers: known, Currency: "USD"})
			require.NoError(rt, err)
			require.Equal(rt, changed, again, "once more it changes nothing")
			if r.ByTenant && changed.At(now).Plan != before.Plan {
				require.Greater(rt, known[changed.At(now).Plan].Rank, known[before.Plan].Rank, "only an upgrade is in force at once")
			}
			contract = changed
			var shown accounts.Organization
			contract.Describe(&shown, now)
			require.Equal(rt, model.plan, shown.Plan)
			require.Equal(rt, model.pending.Plan, shown.PendingPlan, "%v", contract)
			if model.plan != "" && !model.end.IsZero() {
				require.Equal(rt, model.end, *shown.EndsAt)
			}
			turns := rapid.SampledFrom([]time.Duration{0, time.Hour, 20 * 24 * time.Hour, 90 * 24 * time.Hour}).Draw(rt, "look ahead")
			if len(contract.Pending(now)) < 2 || !model.end.IsZero() {
				require.Equal(rt, contract.At(now.Add(turns)).Plan != "", contract.Standing(now).ActiveAt(now.Add(turns)))
			}
		}
	})
}

// checkContract holds what each contract is, and what a change leaves as it was.
func checkContract(t require.TestingT, before, after accounts.Contract, now time.Time) {
	require.Equal(t, before[:len(before)-len(before.Pending(now))], after[:len(before)-len(before.Pending(now))], "what was in force stays")
	plans, ends := 0, 0
	for i, term := range after {
		if i > 0 {
			require.True(t, term.From.After(after[i-1].From), "%v", after)
			require.NotEqual(t, term.Plan, after[i-1].Plan, "%v", after)
		}
		if !term.From.After(now) {
			continue
		}
		if term.Plan == "" {
			ends++
			require.Equal(t, len(after)-1, i, "nothing comes after the end: %v", after)
		} else {
			plans++
		}
	}
	require.LessOrEqual(t, plans, 1, "%v", after)
	require.LessOrEqual(t, ends, 1, "%v", after)
}
