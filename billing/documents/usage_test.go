package documents_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/plans"
)

func evaluations(organization uuid.UUID, value int64) billing.UsageTotal {
	return billing.UsageTotal{
		Organization: organization, OrganizationName: "Acme & Søns <AG>", Plan: "pro",
		Meter: "evaluations", Unit: "evaluation", Aggregation: plans.Sum, Value: value,
	}
}

func storage(organization uuid.UUID, value int64, unitSeconds string) billing.UsageTotal {
	return billing.UsageTotal{
		Organization: organization, OrganizationName: "Acme & Søns <AG>", Plan: "pro",
		Meter: "storage_bytes", Unit: "byte", Aggregation: plans.Last, Value: value, UnitSeconds: unitSeconds,
	}
}

// write writes the totals in pages and returns the bytes.
func write(t require.TestingT, totals []billing.UsageTotal, page int) ([]byte, *documents.UsageWriter) {
	var out bytes.Buffer
	w := documents.NewUsageWriter(&out, plans.Default().Meters)
	for i, total := range totals {
		require.NoError(t, w.Write(total))
		if (i+1)%page == 0 {
			require.NoError(t, w.Flush())
		}
	}
	require.NoError(t, w.Flush())
	return out.Bytes(), w
}

func read(t require.TestingT, document []byte) []billing.UsageTotal {
	var totals []billing.UsageTotal
	for total, err := range documents.ReadUsageJSONL(bytes.NewReader(document)) {
		require.NoError(t, err)
		totals = append(totals, total)
	}
	return totals
}

func TestUsageWriterDescribesWhatItWrote(t *testing.T) {
	t.Parallel()
	totals := []billing.UsageTotal{evaluations(billingtest.Acme, 5), storage(billingtest.Acme, 7, "604800"), evaluations(billingtest.Globex, 1<<62), evaluations(uuid.Max, 1<<62)}
	document, w := write(t, totals, 1)
	sum := sha256.Sum256(document)
	require.Equal(t, billing.File{
		Name: "usage.jsonl", SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(document)), Rows: 4,
	}, w.File(documents.UsageFile))
	require.Equal(t, []billing.ControlTotal{
		{Meter: "evaluations", Organizations: 3, Value: "9223372036854775813"}, // beyond an int64
		{Meter: "storage_bytes", Organizations: 1, Value: "7"},
	}, w.Totals())
	require.Equal(t, totals, read(t, document))
}

// genTotals draws totals of a few organizations in the order of a file.
func genTotals(t *rapid.T) []billing.UsageTotal {
	var totals []billing.UsageTotal
	var id uuid.UUID
	for range rapid.IntRange(0, 8).Draw(t, "organizations") {
		id[15] += byte(rapid.IntRange(1, 20).Draw(t, "step"))
		name := rapid.String().Draw(t, "name")
		for _, meter := range plans.Default().Meters {
			if !rapid.Bool().Draw(t, meter.Key) {
				continue
			}
			total := billing.UsageTotal{
				Organization: id, OrganizationName: name, Plan: "pro",
				Meter: meter.Key, Unit: meter.Unit, Aggregation: meter.Aggregation,
				Value: rapid.Int64Min(0).Draw(t, "value"),
			}
			if meter.Aggregation == plans.Last {
				total.UnitSeconds = rapid.StringMatching(`[1-9][0-9]{0,30}(\.[0-9]{0,5}[1-9])?`).Draw(t, "unit_seconds")
			}
			totals = append(totals, total)
		}
	}
	return totals
}

func TestBytesDependOnTheRowsAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		totals := genTotals(t)
		whole, one := write(t, totals, len(totals)+1)
		pages, other := write(t, totals, rapid.IntRange(1, 10).Draw(t, "page"))
		require.Equal(t, string(whole), string(pages))
		require.Equal(t, one.File("a"), other.File("a"))
		require.Equal(t, one.Totals(), other.Totals())
		require.Equal(t, totals, read(t, whole))
		require.Equal(t, int64(len(totals)), other.Rows())
	})
}

func TestUsageWriterRefuses(t *testing.T) {
	t.Parallel()
	change := func(fn func(*billing.UsageTotal)) []billing.UsageTotal {
		total := storage(billingtest.Acme, 1, "")
		fn(&total)
		return []billing.UsageTotal{total}
	}
	for _, tc := range []struct {
		totals []billing.UsageTotal
		says   string
	}{
		{change(func(u *billing.UsageTotal) { u.Organization = uuid.Nil }), "organization_id is missing"},
		{change(func(u *billing.UsageTotal) { u.Meter = "" }), "meter is missing"},
		{change(func(u *billing.UsageTotal) { u.Meter = "cakes" }), `meter "cakes" of organization_id 0199a000-0000-7000-8000-000000000001 is not one of the catalog`},
		{change(func(u *billing.UsageTotal) { u.Aggregation = "mean" }), `aggregation "mean" must be sum, max or last`},
		{change(func(u *billing.UsageTotal) { u.Value = -1 }), "value -1 must be 0 or more"},
		{change(func(u *billing.UsageTotal) { u.UnitSeconds = "1.50" }), `unit_seconds "1.50" must be a decimal number with at most 6 decimals`},
		{change(func(u *billing.UsageTotal) { u.UnitSeconds = "1." }), `unit_seconds "1." must be`},
		{change(func(u *billing.UsageTotal) { u.UnitSeconds = "1.-5" }), `unit_seconds "1.-5" must be`},
		{change(func(u *billing.UsageTotal) { u.UnitSeconds = "0.0000001" }), `unit_seconds "0.0000001" must be`},
		{change(func(u *billing.UsageTotal) { u.UnitSeconds = "01" }), `unit_seconds "01" must be`},
		{change(func(u *billing.UsageTotal) { u.UnitSeconds = strings.Repeat("9", 61) }), "must be a decimal number"},
		{change(func(u *billing.UsageTotal) { u.Aggregation, u.UnitSeconds = plans.Max, "1" }), "unit_seconds must be left out where the aggregation is max"},
		{change(func(u *billing.UsageTotal) { u.OrganizationName = "a\xff" }), `organization_name "a\xff" must be valid UTF-8`},
		{[]billing.UsageTotal{evaluations(billingtest.Globex, 1), evaluations(billingtest.Acme, 1)}, "rows are in the order of organization_id"},
		{[]billing.UsageTotal{evaluations(billingtest.Acme, 1), evaluations(billingtest.Acme, 1)}, `has meter "evaluations" twice`},
		{[]billing.UsageTotal{storage(billingtest.Acme, 1, ""), evaluations(billingtest.Acme, 1)}, "out of the catalog's order"},
	} {
		t.Run(tc.says, func(t *testing.T) {
			t.Parallel()
			w := documents.NewUsageWriter(&bytes.Buffer{}, plans.Default().Meters)
			var err error
			for _, total := range tc.totals {
				if err = w.Write(total); err != nil {
					break
				}
			}
			require.ErrorIs(t, err, documents.ErrInvalidUsage)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

type brokenPipe struct{ after int }

var errPipe = errors.New("pipe is broken")

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.after -= len(p); b.after < 0 {
		return 0, errPipe
	}
	return len(p), nil
}

func (b *brokenPipe) Read([]byte) (int, error) { return 0, errPipe }

func TestUsageWriterReportsWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	w := documents.NewUsageWriter(&brokenPipe{}, plans.Default().Meters)
	require.NoError(t, w.Write(evaluations(billingtest.Acme, 1)))
	require.ErrorIs(t, w.Flush(), errPipe)
	require.ErrorIs(t, w.Write(evaluations(billingtest.Globex, 1)), errPipe)
}

const acmeLine = `{"organization_id":"0199a000-0000-7000-8000-000000000001","organization_name":"Acme & Co","plan":"pro",` +
	`"meter":"evaluations","unit":"evaluation","aggregation":"sum","value":7}` + "\n"

func TestReadUsageJSONLRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, document, says string }{
		{"cut short", acmeLine + strings.TrimSuffix(acmeLine, "\n"), "line 2: invalid usage: the line ends without a newline"},
		{"no JSON", "{\n", "line 1: invalid usage: unexpected EOF"},
		{"empty line", acmeLine + "\n", "line 2: invalid usage: EOF"},
		{"unknown member", strings.Replace(acmeLine, `"value"`, `"values"`, 1), `unknown field "values"`},
		{"fraction", strings.Replace(acmeLine, "7}", "7.5}", 1), "cannot unmarshal number 7.5"},
		{"spaces", strings.Replace(acmeLine, ":7", ": 7", 1), "not in the canonical form"},
		{"two values", strings.Replace(acmeLine, "\n", "{}\n", 1), "not in the canonical form"},
		{"upper-case id", strings.Replace(acmeLine, "0199a", "0199A", 1), "not in the canonical form"},
		{"escaped HTML", strings.Replace(acmeLine, "&", `\u0026`, 1), "not in the canonical form"},
		{"broken rule", strings.Replace(acmeLine, ":7", ":-7", 1), "line 1: invalid usage: value -7 must be 0 or more"},
		{"twice", acmeLine + acmeLine, "line 2: invalid usage: organization_id 0199a000-0000-7000-8000-000000000001 has meter"},
		{"endless line", strings.Repeat(" ", 1<<20+1), "line 1: invalid usage: the line is longer than 1048576 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var last error
			for _, err := range documents.ReadUsageJSONL(strings.NewReader(tc.document)) {
				last = err
			}
			require.ErrorIs(t, last, documents.ErrInvalidUsage)
			require.ErrorContains(t, last, tc.says)
		})
	}
	for _, err := range documents.ReadUsageJSONL(&brokenPipe{}) {
		require.ErrorIs(t, err, errPipe)
		require.NotErrorIs(t, err, documents.ErrInvalidUsage)
	}
}

func TestReadUsageJSONLEndsWithItsLoop(t *testing.T) {
	t.Parallel()
	count := 0
	for _, err := range documents.ReadUsageJSONL(strings.NewReader(acmeLine + strings.Replace(acmeLine, "0001", "0002", 1))) {
		require.NoError(t, err)
		count++
		break
	}
	require.Equal(t, 1, count)
}

// What is read can be written again, to the same bytes.
func FuzzReadUsageJSONL(f *testing.F) {
	f.Add([]byte(acmeLine))
	f.Add([]byte(acmeLine + strings.Replace(acmeLine, `"sum","value":7`, `"last","value":1,"unit_seconds":"86400"`, 1)))
	f.Add([]byte("{}\n"))
	f.Add([]byte(strings.Replace(acmeLine, "Acme", `\u2028\u0000`, 1)))
	f.Fuzz(func(t *testing.T, document []byte) {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		for total, err := range documents.ReadUsageJSONL(bytes.NewReader(document)) {
			if err != nil {
				require.ErrorIs(t, err, documents.ErrInvalidUsage)
				require.True(t, bytes.HasPrefix(document, out.Bytes()))
				return
			}
			require.NoError(t, documents.NewUsageWriter(io.Discard, []plans.Meter{{Key: total.Meter}}).Write(total))
			require.NoError(t, encoder.Encode(total))
		}
		require.Equal(t, string(document), out.String())
	})
}
