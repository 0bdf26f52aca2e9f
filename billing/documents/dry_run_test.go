package documents_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/plans"
)

// TestDryRunGolden writes one dry run in each format; -update writes the files anew.
func TestDryRunGolden(t *testing.T) {
	t.Parallel()
	run, err := billing.NewDryRun(billing.DryRunConfig{
		Published: billingtest.Published, Proposed: &plans.Catalog{Plans: []plans.Plan{billingtest.Pro3}},
	})
	require.NoError(t, err)
	formula := billingtest.Billed(t, billingtest.Using(5, "JPY", 2000, billingtest.Pro1), billingtest.Published)
	formula.OrganizationPeriod.OrganizationName = `=HYPERLINK("x")`
	given := []billing.BilledPeriod{
		billingtest.Billed(t, billingtest.Using(1, "USD", 2000, billingtest.Pro1), billingtest.Published), billingtest.Billed(t, billingtest.Using(2, "USD", 1000, billingtest.Free, billingtest.Pro2), billingtest.Published),
		billingtest.Billed(t, billingtest.Using(3, "EUR", 1000, billingtest.Pro1), billingtest.Published),
		{OrganizationPeriod: billingtest.Using(4, "USD", 1000, billingtest.Pro1)},
		formula,
		billingtest.Billed(t, billingtest.Using(6, "USD", 123_456_789_012, billingtest.Pro2), billingtest.Published), billingtest.Billed(t, billingtest.Using(7, "USD", 0, billingtest.Pro2), billingtest.Published),
		billingtest.Billed(t, billingtest.Using(8, "USD", 0, billingtest.Pro1), billingtest.Published), billingtest.Billed(t, billingtest.Using(9, "EUR", 9, billingtest.Free), billingtest.Published),
	}
	for _, format := range []documents.DryRunFormat{documents.DryRunTable, documents.DryRunCSV, documents.DryRunJSON} {
		got := dryRunText(t, run, format, given...)
		file := filepath.Join("testdata", "dryrun", "dryrun."+string(format))
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), got)
	}
	nothing := dryRunText(t, run, documents.DryRunJSON)
	require.JSONEq(t, `{"period":"2026-10","revision":2,"organizations":[],"totals":{
		"organizations":0,"compared":0,"unrated":0,"unbilled":0,"kept":0,"kept_plans":[],"money":[]}}`, nothing)
	require.Equal(t, 2, strings.Count(dryRunText(t, run, documents.DryRunTable), "\n")-1)
}

func dryRunText(t *testing.T, run *billing.DryRun, format documents.DryRunFormat, given ...billing.BilledPeriod) string {
	t.Helper()
	var out bytes.Buffer
	w, err := documents.NewDryRunWriter(documents.DryRunWriterConfig{Out: &out, Format: format, Period: billingtest.October, Revision: 2})
	require.NoError(t, err)
	for _, b := range given {
		a, err := run.Rate(b)
		require.NoError(t, err)
		require.NoError(t, w.Write(a))
	}
	require.NoError(t, w.Close())
	return out.String()
}
