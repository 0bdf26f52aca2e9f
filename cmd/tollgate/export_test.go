package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

// runs plays an export that is started as run "r1", and then answers its status by the
// entries, one after the other; the last one stays.
func (s *shell) runs(statuses ...string) {
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, `{"period":"2026-10","workflow_id":"export/2026-10","run_id":"r1","started":true}`)
			return
		}
		status := statuses[0]
		if len(statuses) > 1 {
			statuses = statuses[1:]
		}
		if code, found := strings.CutPrefix(status, "status "); found {
			var n int
			_, _ = fmt.Sscan(code, &n)
			w.WriteHeader(n)
			return
		}
		_, _ = io.WriteString(w, status)
	}
}

func status(run, stage, more string) string {
	return `{"period":"2026-10","run_id":"` + run + `","stage":"` + stage + `"` + more + `}`
}

// A start waits for the end of its own run, or until finance has to decide.
func TestExportStartWaits(t *testing.T) {
	for _, tt := range []struct {
		name     string
		statuses []string
		asked    int
		code     int
		says     string
	}{
		{"until it is done", []string{status("r1", "rating", ""), status("r1", "done", "")}, 3, 0, ""},
		{"until it is to be reviewed", []string{status("r1", "reviewing", "")}, 2, 0, ""},
		{"until it is to be approved", []string{status("r1", "awaiting_approval", "")}, 2, 0, ""},
		{"not for the run before", []string{status("r0", "closed", ""), status("r1", "closed", "")}, 3, 0, ""},
		{"while there is no record of it", []string{"status 404", status("r1", "done", "")}, 3, 0, ""},
		{"while nobody knows", []string{"status 503", status("r1", "done", "")}, 3, 0, ""},
		{"not after a refusal", []string{"status 403"}, 2, 1, "the API answered 403 Forbidden"},
		{"a failure is one", []string{status("r1", "failed", `,"error":"no disk"`)}, 2, 1, "the export of 2026-10 is failed: no disk"},
		{"what was rejected, too", []string{status("r1", "rejected", `,"error":"wrong"`)}, 2, 1, "the export of 2026-10 is rejected: wrong"},
		{"what was canceled, too", []string{status("r1", "canceled", `,"error":"wrong"`)}, 2, 1, "the export of 2026-10 is canceled: wrong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newShell(t)
			s.runs(tt.statuses...)
			code, stdout, stderr := s.run("export", "start", "--period", "2026-10")
			require.Equal(t, tt.code, code, stderr)
			require.Contains(t, stderr, tt.says)
			require.Len(t, s.asked, tt.asked)
			require.Equal(t, "GET billing/exports/2026-10", s.asked[len(s.asked)-1].line)
			if tt.says == "" {
				require.Contains(t, stdout, `"run_id": "r1"`)
			}
		})
	}
}

func TestExportStartWaitsNoLongerThanItMay(t *testing.T) {
	s := newShell(t)
	s.runs(status("r1", "rating", ""))
	code, stdout, stderr := s.run("export", "start", "--period", "2026-10", "--timeout", "50ms")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "the export of 2026-10 goes on in export/2026-10: context deadline exceeded")
}

// october is a manifest of files with these contents, by their names.
func october(t *testing.T, files map[string]string) billing.Manifest {
	t.Helper()
	period, err := calendar.ParsePeriod("2026-10")
	require.NoError(t, err)
	m := billing.Manifest{Format: documents.ManifestFormat, Period: period, Cut: period.End(), Revision: 1, Program: "1"}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256([]byte(files[name]))
		m.Files = append(m.Files, billing.File{
			Name: name, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(files[name])), Rows: int64(strings.Count(files[name], "\n")),
		})
	}
	return m
}

// serves answers with an export's files: those of the manifest, as they are sent.
func (s *shell) serves(m billing.Manifest, sent map[string]string) {
	document, err := json.Marshal(m)
	require.NoError(s.t, err)
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		if name == documents.ManifestFile {
			_, _ = w.Write(document)
			return
		}
		for _, file := range m.Files {
			if file.Name == name {
				w.Header().Set("Content-Length", fmt.Sprint(file.Bytes))
			}
		}
		_, _ = io.WriteString(w, sent[name])
	}
}

const aTotal = `{"organization_id":"` + someID + `","organization_name":"Acme","plan":"pro","meter":"evaluations","unit":"evaluation","aggregation":"sum","value":7}` + "\n"

// What is downloaded is what the manifest says, or it is no success; and nothing that broke
// off stands under a file's name.
func TestExportDownload(t *testing.T) {
	files := map[string]string{documents.UsageFile: aTotal}
	totals := []billing.ControlTotal{{Meter: "evaluations", Organizations: 1, Value: "7"}}
	for _, tt := range []struct {
		name   string
		change func(m *billing.Manifest)
		sent   map[string]string
		says   string
		left   []string
	}{
		{"all", nil, files, "", []string{documents.ManifestFile, documents.UsageFile}},
		{"changed on the way", nil, map[string]string{documents.UsageFile: strings.Replace(aTotal, "7}", "8}", 1)}, documents.UsageFile, []string{documents.ManifestFile, documents.UsageFile}},
		{"cut off", nil, map[string]string{documents.UsageFile: aTotal[:20]}, "download usage.jsonl: unexpected EOF", []string{documents.ManifestFile}},
		{"out of the folder", func(m *billing.Manifest) { m.Files[0].Name = "../usage.jsonl" }, files, "must be the name of a file beside the manifest", []string{documents.ManifestFile}},
		{"wrong sums", func(m *billing.Manifest) { m.Totals[0].Value = "8" }, files, "evaluations", []string{documents.ManifestFile, documents.UsageFile}},
		{"of another program", func(m *billing.Manifest) { m.Format++ }, files, "is not known", []string{documents.ManifestFile}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newShell(t)
			m := october(t, files)
			m.Totals = slices.Clone(totals)
			if tt.change != nil {
				tt.change(&m)
			}
			s.serves(m, tt.sent)
			folder := filepath.Join(t.TempDir(), "made")
			code, stdout, stderr := s.run("export", "download", "--period", "2026-10", "--revision", "1", "--to", folder)
			require.Equal(t, "GET billing/exports/2026-10/files/manifest.json?revision=1", s.asked[0].line)
			entries, err := os.ReadDir(folder)
			require.NoError(t, err)
			var left []string
			for _, entry := range entries {
				left = append(left, entry.Name())
			}
			require.Equal(t, tt.left, left)
			if tt.says != "" {
				require.Equal(t, 1, code)
				require.Contains(t, stderr, tt.says)
				require.Empty(t, stdout)
				return
			}
			require.Zero(t, code, stderr)
			written, err := os.ReadFile(filepath.Join(folder, documents.UsageFile))
			require.NoError(t, err)
			require.Equal(t, aTotal, string(written))
		})
	}
}

// A verification compares with the database unless it is offline, and says what differs.
func TestExportVerify(t *testing.T) {
	folder := t.TempDir()
	m := october(t, map[string]string{documents.UsageFile: aTotal})
	m.Totals = []billing.ControlTotal{{Meter: "evaluations", Organizations: 1, Value: "7"}}
	document, err := documents.EncodeManifest(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, documents.ManifestFile), document, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, documents.UsageFile), []byte(aTotal), 0o600))
	kept := `{"manifest":` + string(document) + `}`
	totals := func(value string) string {
		return `{"control_totals":[{"meter":"evaluations","value":` + value + `,"organizations":1}],"money_totals":null}`
	}

	s := newShell(t)
	require.Contains(t, s.must("export", "verify", "--offline", folder), `"checked": "files, sums and numbers"`)
	require.Empty(t, s.asked)

	s.answers(kept, totals("7"))
	require.Contains(t, s.must("export", "verify", folder), `"checked": "files, sums and numbers, and the database"`)
	require.Equal(t, "GET billing/exports/2026-10/control-totals?revision=1", s.asked[1].line)

	s.answers(kept, totals("9"))
	code, stdout, stderr := s.run("export", "verify", folder)
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "the control totals: ")
	require.NotContains(t, stderr, "the manifest: ")

	require.NoError(t, os.WriteFile(filepath.Join(folder, documents.UsageFile), []byte("{}\n"), 0o600))
	s.asked = nil
	code, _, stderr = s.run("export", "verify", folder)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, documents.UsageFile)
	require.Empty(t, s.asked, "what is broken is not compared")
}

// Revisions come from the API, folders from the disk.
func TestExportDiff(t *testing.T) {
	const before = `{"organization_id":"` + someID + `","organization_name":"Acme","period":"2026-10","currency":"USD","number":"TG-2026-10-000001","subtotal":"49.00","due":"49.00"}` + "\n"
	s := newShell(t)
	after := strings.ReplaceAll(before, "49.00", "59.00")
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, documents.StatementsFile), []byte(after), 0o600))
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/2026-10") {
			_, _ = io.WriteString(w, `{"files":[{"name":"usage.jsonl"},{"name":"statements.jsonl"}]}`)
			return
		}
		_, _ = io.WriteString(w, before)
	}
	require.JSONEq(t, `"49.00"`, member(t, s.must("export", "diff", "--period", "2026-10", "1", folder), "before"))
	require.Equal(t, "GET billing/exports/2026-10/files/statements.jsonl?revision=1", s.asked[1].line)
	s.terminal = true
	require.Contains(t, s.must("export", "diff", "--period", "2026-10", "1", folder), someID+" Acme: 49.00 → 59.00 USD")
	require.Empty(t, s.must("export", "diff", folder, folder))

	s.answers(`{"files":[{"name":"usage.jsonl"}]}`)
	code, _, stderr := s.run("export", "diff", "--period", "2026-10", "2", folder)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "revision 2 of 2026-10 has no statements")
}

// member returns one member of a JSON document.
func member(t *testing.T, document, name string) string {
	t.Helper()
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(document), &members), document)
	return string(members[name])
}
