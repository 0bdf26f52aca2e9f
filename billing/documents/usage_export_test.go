package documents_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

func TestNewBillingExportGroupsByOrganization(t *testing.T) {
	t.Parallel()
	from, err := calendar.ParseDay("2026-10-01")
	require.NoError(t, err)
	export := documents.NewBillingExport(from, from+30, []billing.UsageTotal{
		evaluations(billingtest.Acme, 5), storage(billingtest.Acme, 7, "604800"), evaluations(billingtest.Globex, 6),
	})
	text, err := json.Marshal(export)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"from": "2026-10-01", "to": "2026-10-31",
		"organizations": [
			{"organization_id": "0199a000-0000-7000-8000-000000000001", "organization_name": "Acme & Søns <AG>", "plan": "pro", "usage": [
				{"meter": "evaluations", "unit": "evaluation", "aggregation": "sum", "value": 5},
				{"meter": "storage_bytes", "unit": "byte", "aggregation": "last", "value": 7}
			]},
			{"organization_id": "0199a000-0000-7000-8000-000000000002", "organization_name": "Acme & Søns <AG>", "plan": "pro", "usage": [
				{"meter": "evaluations", "unit": "evaluation", "aggregation": "sum", "value": 6}
			]}
		]}`, string(text))

	text, err = json.Marshal(documents.NewBillingExport(from, from, nil))
	require.NoError(t, err)
	require.JSONEq(t, `{"from": "2026-10-01", "to": "2026-10-01", "organizations": []}`, string(text))
}

func TestUsageCSV(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := documents.NewUsageCSVWriter(&out)
	quoted := evaluations(billingtest.Acme, 5)
	quoted.OrganizationName = "Acme, \"the\" one\nand only"
	formula := evaluations(billingtest.Globex, 6)
	formula.OrganizationName = `=HYPERLINK("https://example.com")`
	for _, total := range []billing.UsageTotal{quoted, formula} {
		require.NoError(t, w.Write(total))
	}
	require.NoError(t, w.Flush())
	records, err := csv.NewReader(&out).ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{
		{"organization_id", "organization_name", "plan", "meter", "unit", "aggregation", "value"},
		{billingtest.Acme.String(), "Acme, \"the\" one\nand only", "pro", "evaluations", "evaluation", "sum", "5"},
		{billingtest.Globex.String(), `'=HYPERLINK("https://example.com")`, "pro", "evaluations", "evaluation", "sum", "6"},
	}, records)
}

// TestFormulasAreText holds that no CSV has text which a spreadsheet runs, FOCUS's included, and that
// numbers stay numbers.
func TestFormulasAreText(t *testing.T) {
	t.Parallel()
	for _, formula := range []string{
		`=HYPERLINK("x")`, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\u200b=1", "\ufeff+1", "＝1", "＋1", "－1", "＠x",
	} {
		total := evaluations(billingtest.Acme, 5)
		total.OrganizationName = formula
		var out bytes.Buffer
		w := documents.NewUsageCSVWriter(&out)
		require.NoError(t, w.Write(total))
		require.NoError(t, w.Flush())
		require.Contains(t, out.String(), "'"+strings.NewReplacer(`"`, `""`, "\n", "\r\n", "\r", "").Replace(formula))

		for _, version := range documents.FocusVersions() {
			row := focusRow(1, documents.FocusDiscount, "-12.77", func(r *documents.FocusRow) {
				r.OrganizationName, r.Description, r.Plan.Name, r.Provider, r.Publisher, r.Issuer = formula, formula, formula, formula, formula, formula
			})
			_, records := focusRecords(t, focusText(t, documents.FocusOptions{Version: version}, row))
			for column, value := range records[0] {
				if value != "" && strings.HasSuffix(value, strings.TrimLeft(formula, "\r\n")) {
					require.Equal(t, byte('\''), value[0], column)
				}
			}
			require.Equal(t, "-12.77", records[0]["BilledCost"])
		}
	}
	for _, text := range []string{"Acme = Co", "a-b", "x@y", "", "1", "·=1"} {
		total := evaluations(billingtest.Acme, 5)
		total.OrganizationName = text
		var out bytes.Buffer
		w := documents.NewUsageCSVWriter(&out)
		require.NoError(t, w.Write(total))
		require.NoError(t, w.Flush())
		require.NotContains(t, out.String(), "'")
	}
}

func TestUsageCSVWithoutUsageHasItsHeader(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, documents.NewUsageCSVWriter(&out).Flush())
	require.Equal(t, "organization_id,organization_name,plan,meter,unit,aggregation,value\r\n", out.String())
	w := documents.NewUsageCSVWriter(&brokenPipe{})
	require.ErrorIs(t, w.Flush(), errPipe)
}
