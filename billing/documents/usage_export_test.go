package documents_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
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

func TestUsageCSVWithoutUsageHasItsHeader(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, documents.NewUsageCSVWriter(&out).Flush())
	require.Equal(t, "organization_id,organization_name,plan,meter,unit,aggregation,value\r\n", out.String())
	w := documents.NewUsageCSVWriter(&brokenPipe{})
	require.ErrorIs(t, w.Flush(), errPipe)
}
