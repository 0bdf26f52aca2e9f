package billing_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

var update = flag.Bool("update", false, "write the golden files anew")

// statementCase is the input of a golden case.
type statementCase struct {
	Period   string
	Currency money.Currency
	Cut      time.Time
	Plans    []plans.Plan
	Segments []struct {
		// Start is the period's where it is left out, End the next one's start or the cut.
		Start, End time.Time
		// Plan is empty where there was no contract.
		Plan    string
		Version int
		Usage   []struct {
			Meter       string
			Value       int64
			UnitSeconds string `yaml:"unit_seconds"`
		}
	}
	Credits []struct {
		Currency  money.Currency
		Remaining string
		Priority  int
		Effective time.Time
		Expires   time.Time
		Note      string
	}
}

// grants have IDs in their order.
func (c statementCase) grants() []billing.CreditGrant {
	var grants []billing.CreditGrant
	for i, g := range c.Credits {
		remaining := decimal.RequireFromString(g.Remaining)
		grants = append(grants, billing.CreditGrant{
			ID: uuid.UUID{15: byte(i + 1)}, Organization: billingtest.Acme, Currency: g.Currency, Amount: remaining, Remaining: remaining,
			Priority: g.Priority, EffectiveAt: g.Effective, ExpiresAt: g.Expires, Note: g.Note,
		})
	}
	return grants
}

func (c statementCase) period(t *testing.T) billing.OrganizationPeriod {
	t.Helper()
	catalog := plans.Catalog{Meters: billingtest.Meters, Plans: c.Plans}
	require.NoError(t, catalog.Validate())
	period, err := calendar.ParsePeriod(c.Period)
	require.NoError(t, err)
	o := billing.OrganizationPeriod{
		Organization: billingtest.Acme, OrganizationName: "Acme", Currency: c.Currency, Period: period, Cut: period.End(), Meters: billingtest.Meters,
	}
	if !c.Cut.IsZero() {
		o.Cut = c.Cut
	}
	for i, s := range c.Segments {
		segment := billing.Segment{Start: s.Start, End: o.Cut}
		if s.Start.IsZero() {
			segment.Start = period.Start()
		}
		if i+1 < len(c.Segments) {
			segment.End = c.Segments[i+1].Start
		}
		if !s.End.IsZero() {
			segment.End = s.End
		}
		if s.Plan != "" {
			at := slices.IndexFunc(c.Plans, func(p plans.Plan) bool { return p.Key == s.Plan && p.Version == max(s.Version, 1) })
			require.GreaterOrEqual(t, at, 0, s.Plan)
			segment.Plan = c.Plans[at]
		}
		for _, u := range s.Usage {
			seconds := decimal.Zero
			if u.UnitSeconds != "" {
				seconds = decimal.RequireFromString(u.UnitSeconds)
			}
			segment.Usage = append(segment.Usage, billing.SegmentUsage{Meter: u.Meter, Value: u.Value, UnitSeconds: seconds})
		}
		o.Segments = append(o.Segments, segment)
	}
	return o
}

// TestStatementGolden makes the statement of each case. A file is the case, a line of
// three dashes, and the statement as people read it; -update writes the latter.
func TestStatementGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/statements/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			input, want, found := bytes.Cut(content, []byte("---\n"))
			require.True(t, found)
			var given statementCase
			require.NoError(t, yaml.UnmarshalWithOptions(input, &given, yaml.DisallowUnknownField()))
			var got string
			period := given.period(t)
			if s, err := billing.Rate(billing.Ratable{OrganizationPeriod: period, Credits: given.grants()}, &plans.Catalog{Plans: given.Plans}); err != nil {
				require.ErrorIs(t, err, billing.ErrCannotRate)
				got = err.Error() + "\n"
			} else {
				got = readable(s)
			}
			if *update {
				require.NoError(t, os.WriteFile(file, append(append(input, "---\n"...), got...), 0o600))
				return
			}
			require.Equal(t, string(want), got)
		})
	}
}

func readable(s billing.Statement) string {
	var out strings.Builder
	for _, l := range s.Lines {
		fmt.Fprintf(&out, "%s · %s–%s · %s %d\n", l.Description, l.Start.Format("01-02 15:04"), l.End.Format("01-02 15:04"), l.Plan, l.PlanVersion)
		for _, step := range l.Explain(s.Currency) {
			fmt.Fprintf(&out, "    %s\n", step)
		}
	}
	fmt.Fprintf(&out, "subtotal %s, credits %s, due %s %s\n", s.Subtotal, s.Credits, s.Due, s.Currency)
	return out.String()
}

// The lines add up, and no amount is finer than the minor unit; a statement reads back
// from its document as it was.
func TestStatementLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		period := billingtest.AnyMonth.Period(t)
		s, err := billing.NewStatement(period)
		require.NoError(t, err)
		due := s.Due
		credit := billing.CreditGrant{ID: billingtest.Acme, Currency: s.Currency, Remaining: decimal.New(rapid.Int64Range(0, 100).Draw(t, "credit"), -2)}
		s.PayFrom([]billing.CreditGrant{credit}, period.Cut)
		require.True(t, decimal.Max(decimal.Zero, decimal.Min(credit.Remaining, due.Decimal)).Equal(s.Credits.Decimal))
		require.True(t, s.Subtotal.Equal(due.Decimal))
		sum := decimal.Zero
		for _, l := range s.Lines {
			require.True(t, l.Amount.Shift(2).IsInteger())
			require.Equal(t, int32(-2), l.Amount.Exponent())
			sum = sum.Add(l.Amount.Decimal)
		}
		require.True(t, sum.Equal(s.Due.Decimal))
		require.True(t, s.Subtotal.Sub(s.Credits.Decimal).Equal(s.Due.Decimal))
		document, err := json.Marshal(s)
		require.NoError(t, err)
		var read billing.Statement
		require.NoError(t, json.Unmarshal(document, &read))
		again, err := json.Marshal(read)
		require.NoError(t, err)
		require.Equal(t, string(document), string(again))
		require.Equal(t, readable(s), readable(read))
	})
}

// A period that is rated again with the usage that was billed has nothing to correct; with
// more usage, the corrections bring what is billed to what it costs.
func TestCorrectionsReachThePrice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		period := billingtest.AnyMonth.Period(t)
		closed, err := billing.NewStatement(period)
		require.NoError(t, err)
		next := billing.Statement{Period: billingtest.October.Next(), Currency: "USD"}
		next.Correct(closed, closed.BilledBy())
		require.Empty(t, next.Lines)

		for i := range period.Segments {
			for j := range period.Segments[i].Usage {
				period.Segments[i].Usage[j].Value += rapid.Int64Range(0, 500).Draw(t, "late")
			}
			if len(period.Segments[i].Usage) == 0 && rapid.Bool().Draw(t, "used late") {
				period.Segments[i].Usage = []billing.SegmentUsage{{Meter: "calls", Value: 7}}
			}
		}
		again, err := billing.NewStatement(period)
		require.NoError(t, err)
		next.Correct(again, closed.BilledBy())
		require.True(t, next.Due.Equal(again.Due.Sub(closed.Due.Decimal)))
		require.Len(t, outside(next), len(outside(again))-len(outside(closed)), "what is used outside of the contract is shown once")
		for _, l := range outside(next) {
			require.True(t, l.Amount.IsZero(), "%s costs %s", l.Description, l.Amount)
		}
		third := billing.Statement{Period: billingtest.October.Next().Next(), Currency: "USD"}
		third.Correct(again, append(closed.BilledBy(), next.CorrectionsOf(billingtest.October)...))
		require.Empty(t, third.Lines)
	})
}

// outside returns the lines that say of usage that it was outside of the contract.
func outside(s billing.Statement) []billing.Line {
	return slices.DeleteFunc(slices.Clone(s.Lines), func(l billing.Line) bool { return !strings.HasSuffix(l.Description, ", outside of the contract") })
}

func drawOrganizationPeriod(t *rapid.T) billing.OrganizationPeriod {
	amount := func(name string) decimal.Decimal { return decimal.New(rapid.Int64Range(0, 9999).Draw(t, name), -3) }
	proration := func() plans.Proration {
		return rapid.SampledFrom([]plans.Proration{"", plans.ProrateDay}).Draw(t, "prorate")
	}
	plan := func(key string) plans.Plan {
		percent := decimal.NewFromInt(rapid.Int64Range(0, 100).Draw(t, "discount"))
		return plans.Plan{Key: key, Version: 1, Name: key, PriceBooks: []plans.PriceBook{{
			Currency: "USD", BaseFee: plans.BaseFee{Amount: amount("base"), Prorate: proration()}, Minimum: amount("minimum"), DiscountPercent: percent,
			Prices: []plans.Price{
				{Meter: "calls", Model: plans.PerUnit, UnitPrice: amount("calls"), Included: rapid.Int64Range(0, 100).Draw(t, "included"), Minimum: amount("minimum")},
				{Meter: "seats", Model: plans.Package, PackageSize: 3, PackagePrice: amount("seats"), Prorate: proration(), DiscountPercent: percent},
			},
		}}}
	}
	o := billing.OrganizationPeriod{
		Organization: uuid.UUID{1}, Currency: "USD", Period: billingtest.October, Cut: billingtest.October.End(), Meters: billingtest.Meters,
	}
	start := billingtest.October.Start()
	for i := range rapid.IntRange(1, 3).Draw(t, "segments") {
		o.Segments = append(o.Segments, billing.Segment{
			Start: start, End: billingtest.October.End(), Plan: plan(fmt.Sprintf("plan%d", i)),
			Usage: []billing.SegmentUsage{
				{Meter: "calls", Value: rapid.Int64Range(0, 1000).Draw(t, "calls")}, {Meter: "seats", Value: rapid.Int64Range(0, 20).Draw(t, "seats")},
			},
		})
		if i > 0 {
			o.Segments[i-1].End = start
		}
		start = start.Add(time.Duration(rapid.IntRange(1, 10*24).Draw(t, "hours")) * time.Hour)
	}
	return o
}

// The worked examples of the documents are the statements of golden cases, to the letter.
func TestExamplesOfTheDocuments(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../docs/close.md")
	require.NoError(t, err)
	examples := regexp.MustCompile("(?s)\\[`([a-z_]+\\.txt)`\\]\\(\\.\\./billing/testdata/statements/[a-z_]+\\.txt\\):\\s(.*?)\n\n```text\n(.*?)```\n").FindAllSubmatch(document, -1)
	require.GreaterOrEqual(t, len(examples), 10)
	for _, example := range examples {
		content, err := os.ReadFile(filepath.Join("testdata", "statements", string(example[1])))
		require.NoError(t, err)
		input, want, found := strings.Cut(string(content), "---\n")
		require.True(t, found)
		require.Equal(t, want, string(example[3]), "%s", example[1])
		var comment []string
		for line := range strings.Lines(input) {
			if text, ok := strings.CutPrefix(line, "# "); ok {
				comment = append(comment, strings.TrimSpace(text))
			}
		}
		require.Equal(t, strings.Join(comment, " "), strings.Join(strings.Fields(string(example[2])), " "), "%s", example[1])
	}
}
