package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

// pages is an API that answers two pages; the second one of the run that is named.
func pages(t *testing.T, second string, asked *[]string) rateCommand {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.RequestURI())
		next, id, run := uuid.UUID{1}, uuid.UUID{1}, "run"
		page := map[string]any{"revision": 3, "run_id": run, "next": next}
		if r.URL.Query().Get("after") != "" {
			id = uuid.UUID{2}
			page = map[string]any{"revision": 3, "run_id": second}
		}
		page["organizations"] = []any{map[string]any{
			"organization_id": id, "organization_name": "Acme", "plans": []string{"pro"}, "currency": "USD",
			"billed": "1.00", "proposed": "1.50", "difference": "0.50", "percent": "50.0",
		}}
		_ = json.NewEncoder(w).Encode(page)
	}))
	t.Cleanup(server.Close)
	period, err := calendar.ParsePeriod("2026-10")
	require.NoError(t, err)
	return rateCommand{
		financeAccess: financeAccess{server: at(server.URL), Key: "tg_key"}, Catalog: "../../plans/default.yaml", Period: period, Format: "csv",
	}
}

func at(url string) server { return server{URL: url} }

func TestRateReadsAllPagesOfOneRun(t *testing.T) {
	var asked []string
	c := pages(t, "run", &asked)
	c.Output = filepath.Join(t.TempDir(), "october.csv")
	var printed bytes.Buffer
	require.NoError(t, c.Run(t.Context(), &output{Writer: &printed}))
	written, err := os.ReadFile(c.Output)
	require.NoError(t, err)
	record := "2026-10,3,%s,Acme,pro,,USD,1.00,1.50,0.50,50.0,\r\n"
	require.Equal(t, "period,revision,organization_id,organization_name,plans,kept_plans,currency,billed,proposed,difference,percent,reason\r\n"+
		fmt.Sprintf(record, uuid.UUID{1})+fmt.Sprintf(record, uuid.UUID{2}), string(written))
	require.Contains(t, printed.String(), "Organizations: 2. Compared: 2,")
	require.Equal(t, []string{
		"/api/v1/billing/exports/2026-10/dry-run?limit=1000",
		"/api/v1/billing/exports/2026-10/dry-run?after=01000000-0000-0000-0000-000000000000&limit=1000&revision=3",
	}, asked, "later pages are of the revision that the first one was of")
}

func TestRateLeavesNoHalfFile(t *testing.T) {
	var asked []string
	c := pages(t, "another", &asked)
	folder := t.TempDir()
	c.Output = filepath.Join(folder, "october.csv")
	require.NoError(t, os.WriteFile(c.Output, []byte("before"), 0o600))
	require.ErrorIs(t, c.Run(t.Context(), &output{Writer: &bytes.Buffer{}}), errExportChanged)
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, left, 1)
	written, err := os.ReadFile(c.Output)
	require.NoError(t, err)
	require.Equal(t, "before", string(written))
}

func TestRateRefusesACatalogBeforeItAsks(t *testing.T) {
	var asked []string
	c := pages(t, "run", &asked)
	c.Catalog = filepath.Join(t.TempDir(), "new.yaml")
	require.NoError(t, os.WriteFile(c.Catalog, []byte("meters: [{ key: calls, name: Calls, aggregation: sum, unit: call }]\nplan: []\n"), 0o600))
	require.ErrorContains(t, c.Run(t.Context(), &output{Writer: &bytes.Buffer{}}), `unknown field "plan"`)
	require.Empty(t, asked)
}

func TestRateFormats(t *testing.T) {
	for _, tt := range []struct {
		given, file string
		terminal    bool
		want        documents.DryRunFormat
	}{
		{"", "", true, documents.DryRunTable},
		{"", "", false, documents.DryRunJSON},
		{"", "f", true, documents.DryRunCSV},
		{"json", "f", true, documents.DryRunJSON},
		{"table", "", false, documents.DryRunTable},
	} {
		require.Equal(t, tt.want, rateCommand{Format: tt.given, Output: tt.file}.format(&output{terminal: tt.terminal}))
	}
}
