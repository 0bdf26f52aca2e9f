package documents_test

import (
	"bytes"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

func october(t testing.TB) calendar.Period {
	t.Helper()
	p, err := calendar.ParsePeriod("2026-10")
	require.NoError(t, err)
	return p
}

// aManifest returns a manifest and the file that it describes.
func aManifest(t testing.TB) (billing.Manifest, []byte) {
	t.Helper()
	document, w := write(t, []billing.UsageTotal{evaluations(billingtest.Acme, 5), storage(billingtest.Acme, 7, "604800"), evaluations(billingtest.Globex, 6)}, 10)
	return billing.Manifest{
		Format: documents.ManifestFormat, Period: october(t), Cut: october(t).End(), Revision: 1, Program: "1.0.0",
		Watermark: []billing.BatchMark{{Instance: billingtest.Acme, Through: 9}, {Instance: billingtest.Globex, Through: 3}},
		Files:     []billing.File{w.File(documents.UsageFile)},
		Totals:    w.Totals(),
	}, document
}

func TestEncodeManifestSortsAndLeavesTheArgumentAlone(t *testing.T) {
	t.Parallel()
	m, _ := aManifest(t)
	m.Files = append(m.Files, billing.File{Name: "a.csv", SHA256: strings.Repeat("0", 64)})
	m.Cut = m.Cut.In(time.FixedZone("", 7200))
	slices.Reverse(m.Watermark)
	before := slices.Clone(m.Watermark)
	document, err := documents.EncodeManifest(m)
	require.NoError(t, err)
	require.Equal(t, before, m.Watermark)
	require.True(t, bytes.HasSuffix(document, []byte("}\n")))

	slices.Reverse(m.Watermark)
	slices.Reverse(m.Files)
	m.Cut = m.Cut.UTC()
	other, err := documents.EncodeManifest(m)
	require.NoError(t, err)
	require.Equal(t, string(document), string(other))

	parsed, err := documents.ParseManifest(document)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(m, parsed, cmp.Comparer(func(a, b calendar.Period) bool { return a == b })))
}

func TestEncodeManifestWithoutUsage(t *testing.T) {
	t.Parallel()
	at := october(t).Start().Add(time.Hour)
	document, err := documents.EncodeManifest(billing.Manifest{Format: 2, Period: october(t), Cut: at, Provisional: true, Revision: 1, Program: "dev"})
	require.NoError(t, err)
	require.Equal(t, `{
  "format": 2,
  "period": "2026-10",
  "cut": "2026-10-01T01:00:00Z",
  "provisional": true,
  "revision": 1,
  "program": "dev",
  "watermark": [],
  "files": [],
  "control_totals": []
}
`, string(document))
}

func TestManifestRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		says   string
		change func(*billing.Manifest)
	}{
		{"format: 1 is not known: this program knows 2", func(m *billing.Manifest) { m.Format = 1 }},
		{"format: 3 is not known: this program knows 2", func(m *billing.Manifest) { m.Format = 3 }},
		{"revision: 0 must be 1 or more", func(m *billing.Manifest) { m.Revision = 0 }},
		{"period: is missing", func(m *billing.Manifest) { m.Period = calendar.Period{} }},
		{"cut: 2026-11-01 00:00:00.000000001 +0000 UTC must lie in the period 2026-10", func(m *billing.Manifest) { m.Cut = m.Cut.Add(1) }},
		{"cut: 0001-01-01", func(m *billing.Manifest) { m.Cut = time.Time{} }},
		{"cut: must be before the year 10000", func(m *billing.Manifest) { m.Cut = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"provisional: must be true exactly where", func(m *billing.Manifest) { m.Provisional = true }},
		{"provisional: must be true exactly where", func(m *billing.Manifest) { m.Cut = m.Cut.Add(-1) }},
		{"program: is missing", func(m *billing.Manifest) { m.Program = "" }},
		{"watermark[0].instance: is missing", func(m *billing.Manifest) { m.Watermark[0].Instance = uuid.Nil }},
		{"watermark[1].instance: 0199a000-0000-7000-8000-000000000002 is there twice", func(m *billing.Manifest) { m.Watermark[0] = m.Watermark[1] }},
		{"watermark[0].through: 0 must be 1 or more", func(m *billing.Manifest) { m.Watermark[0].Through = 0 }},
		{`files[0].name: "../usage.jsonl" must be the name of a file`, func(m *billing.Manifest) { m.Files[0].Name = "../usage.jsonl" }},
		{`files[0].name: "manifest.json" must be the name of a file`, func(m *billing.Manifest) { m.Files[0].Name = "manifest.json" }},
		{"is there twice or out of order", func(m *billing.Manifest) { m.Files = append(m.Files, m.Files[0]) }},
		{"files[0].sha256: ", func(m *billing.Manifest) { m.Files[0].SHA256 = strings.ToUpper(m.Files[0].SHA256) }},
		{"files[0].bytes: -1 must be 0 or more", func(m *billing.Manifest) { m.Files[0].Bytes = -1 }},
		{"files[0].rows: -1 must be 0 or more", func(m *billing.Manifest) { m.Files[0].Rows = -1 }},
		{`control_totals[1].meter: "evaluations" is missing or there twice`, func(m *billing.Manifest) { m.Totals[1].Meter = "evaluations" }},
		{"control_totals[0].organizations: 0 must be 1 or more", func(m *billing.Manifest) { m.Totals[0].Organizations = 0 }},
		{`control_totals[0].value: "1e3" must be a whole decimal number`, func(m *billing.Manifest) { m.Totals[0].Value = "1e3" }},
	} {
		t.Run(tc.says, func(t *testing.T) {
			t.Parallel()
			m, _ := aManifest(t)
			tc.change(&m)
			_, err := documents.EncodeManifest(m)
			require.ErrorIs(t, err, documents.ErrInvalidManifest)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	m, _ := aManifest(t)
	document, err := documents.EncodeManifest(m)
	require.NoError(t, err)
	for says, broken := range map[string]string{
		"unexpected EOF":                   string(document[:len(document)-3]),
		"something follows the document":   string(document) + "{}",
		`unknown field "colour"`:           strings.Replace(string(document), `"cut"`, `"colour": 1, "cut"`, 1),
		`period "2026-13"`:                 strings.Replace(string(document), "2026-10", "2026-13", 1),
		"watermark[1].instance":            strings.ReplaceAll(string(document), billingtest.Acme.String(), billingtest.Globex.String()),
		"format: 7 is not known":           strings.Replace(string(document), `"format": 2`, `"format": 7`, 1),
		"cannot unmarshal string into":     strings.Replace(string(document), `"rows": 3`, `"rows": "3"`, 1),
		`value: "11.5" must be a whole`:    strings.Replace(string(document), `"value": 11`, `"value": 11.5`, 1),
		"files[0].sha256: \"\" must be 64": strings.Replace(string(document), m.Files[0].SHA256, "", 1),
	} {
		_, err := documents.ParseManifest([]byte(broken))
		require.ErrorIs(t, err, documents.ErrInvalidManifest, says)
		require.ErrorContains(t, err, says)
	}
}

// What is parsed can be encoded, and the encoded form is stable.
func FuzzParseManifest(f *testing.F) {
	m, _ := aManifest(f)
	document, err := documents.EncodeManifest(m)
	require.NoError(f, err)
	f.Add(document)
	f.Add([]byte(`{"format":2,"period":"2026-10","cut":"2026-10-31T23:00:00-01:00","provisional":false,"revision":1,"program":"x"}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		m, err := documents.ParseManifest(document)
		if err != nil {
			require.ErrorIs(t, err, documents.ErrInvalidManifest)
			return
		}
		encoded, err := documents.EncodeManifest(m)
		require.NoError(t, err)
		again, err := documents.ParseManifest(encoded)
		require.NoError(t, err)
		other, err := documents.EncodeManifest(again)
		require.NoError(t, err)
		require.Equal(t, string(encoded), string(other))
	})
}

// files opens the documents by their name.
func files(documents map[string]string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		document, ok := documents[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return io.NopCloser(strings.NewReader(document)), nil
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	m, document := aManifest(t)
	require.NoError(t, documents.Verify(m, files(map[string]string{"usage.jsonl": string(document)})))
	for _, tc := range []struct {
		name   string
		change func(m *billing.Manifest, document *string)
		says   []string
	}{
		{
			"another value", func(m *billing.Manifest, document *string) {
				*document = strings.Replace(*document, `"value":5`, `"value":4`, 1)
			},
			[]string{"has SHA-256", "has 10 of meter evaluations by 2 organizations, not 11 by 2"},
		},
		{
			"a row less", func(m *billing.Manifest, document *string) {
				*document = (*document)[:strings.LastIndex(strings.TrimSuffix(*document, "\n"), "\n")+1]
			},
			[]string{"has SHA-256", "bytes, not", "has 2 rows, not 3", "has 5 of meter evaluations by 1 organizations, not 11 by 2"},
		},
		{
			"nothing", func(m *billing.Manifest, document *string) { *document = "" },
			[]string{"has 0 bytes", "has 0 rows, not 3", "has no usage of meter storage_bytes, not 7 of 1 organizations"},
		},
		{
			"broken in the middle", func(m *billing.Manifest, document *string) {
				*document = strings.Replace(*document, `"plan"`, `"plans"`, 1)
			},
			[]string{"has SHA-256", `usage.jsonl: line 1: invalid usage: json: unknown field "plans"`},
		},
		{
			"a meter that isn't named", func(m *billing.Manifest, document *string) { m.Totals = m.Totals[:1] },
			[]string{"has usage of meter storage_bytes, which the manifest doesn't name"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			changed, _ := aManifest(t)
			text := string(document)
			tc.change(&changed, &text)
			err := documents.Verify(changed, files(map[string]string{"usage.jsonl": text}))
			require.ErrorIs(t, err, documents.ErrMismatch)
			for _, says := range tc.says {
				require.ErrorContains(t, err, says)
			}
		})
	}
}

func TestVerifyOfOtherFiles(t *testing.T) {
	t.Parallel()
	m, document := aManifest(t)
	m.Files = append([]billing.File{{
		Name: "a.txt", Bytes: 3, SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	}}, m.Files...)
	texts := map[string]string{"usage.jsonl": string(document), "a.txt": "abc"}
	require.NoError(t, documents.Verify(m, files(texts)))
	texts["a.txt"] = "abd"
	require.ErrorIs(t, documents.Verify(m, files(texts)), documents.ErrMismatch)
	delete(texts, "a.txt")
	err := documents.Verify(m, files(texts))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "open a.txt")

	err = documents.Verify(m, func(string) (io.ReadCloser, error) { return io.NopCloser(&brokenPipe{}), nil })
	require.ErrorIs(t, err, errPipe)
	m.Format = 0
	require.ErrorIs(t, documents.Verify(m, files(nil)), documents.ErrInvalidManifest)
}
