package usagefile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/usagefile"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

var update = flag.Bool("update", false, "write golden files")

var (
	acme = uuid.MustParse("0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a01")
	now  = time.Date(2026, 11, 28, 10, 30, 0, 0, time.UTC)
)

func read(t testing.TB, format usagefile.Format, content string) *usagefile.File {
	t.Helper()
	file, err := usagefile.Read(strings.NewReader(content), usagefile.Config{
		Format: format, Catalog: plans.Default(), Organizations: map[uuid.UUID]bool{acme: true}, Now: now, KeepProblems: 100,
	})
	require.NoError(t, err)
	return file
}

// TestProblemsGolden reads each broken file, and names each line, field and rule.
func TestProblemsGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.csv")
	require.NoError(t, err)
	more, err := filepath.Glob("testdata/*.jsonl")
	require.NoError(t, err)
	require.NotEmpty(t, append(files, more...))
	for _, name := range append(files, more...) {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		file := read(t, usagefile.Format(strings.TrimPrefix(filepath.Ext(name), ".")), string(content))
		var got strings.Builder
		for _, p := range file.Problems {
			fmt.Fprintln(&got, p)
		}
		fmt.Fprintf(&got, "%d broken, %d good\n", file.Broken, chunked(file))
		golden := name + ".golden"
		if *update {
			require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o600))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), got.String(), name)
	}
}

func chunked(file *usagefile.File) (rows int) {
	for n := 1; n <= file.Chunks(); n++ {
		rows += len(file.Chunk(n))
	}
	return rows
}

// The same usage in every spelling that is taken.
func TestSpellings(t *testing.T) {
	t.Parallel()
	want := []meter.Row{
		{Organization: acme, Meter: "evaluations", Aggregation: plans.Sum, Day: mustDay(t, "2026-10-31"), Value: 3},
		{Organization: acme, Meter: "storage_bytes", Aggregation: plans.Last, Day: mustDay(t, "2026-11-28"), Value: 0, At: time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)},
	}
	id := acme.String()
	for name, content := range map[string]string{
		"plain":           "organization_id,meter,day,value,at\n" + id + ",evaluations,2026-10-31,3,\n" + id + ",storage_bytes,2026-11-28,0,2026-11-28T08:00:00Z\n",
		"BOM and CRLF":    "\ufefforganization_id,meter,day,value,at\r\n" + id + ",evaluations,2026-10-31,3.0,\r\n" + id + ",storage_bytes,2026-11-28,0,2026-11-28T09:00:00+01:00",
		"quotes":          "\"organization_id\",\"meter\",\"day\",\"value\",\"at\"\n\"" + id + "\",\"evaluations\",\"2026-10-31\",\"3\",\"\"\n" + id + ",storage_bytes,2026-11-28,0e0,2026-11-28T08:00:00.000Z\n",
		"another order":   "value,day,at,meter,organization_id\n30e-1,2026-10-31,,evaluations," + id + "\n0,2026-11-28,2026-11-28T08:00:00Z,storage_bytes," + id + "\n",
		"blank lines":     "organization_id,meter,day,value,at\n\n" + id + ",evaluations,2026-10-31,0.3e1,\n\n" + id + ",storage_bytes,2026-11-28,0,2026-11-28T08:00:00Z\n\n",
		"lower case":      "organization_id,meter,day,value,at\n" + id + ",evaluations,2026-10-31,3,\n" + id + ",storage_bytes,2026-11-28,0,2026-11-28t08:00:00z\n",
		"JSON":            `{"organization_id":"` + id + `","meter":"evaluations","day":"2026-10-31","value":3}` + "\n" + `{"organization_id":"` + id + `","meter":"storage_bytes","day":"2026-11-28","value":0,"at":"2026-11-28T08:00:00Z"}`,
		"JSON, otherwise": "\ufeff" + `{"value":"3.0","organization_id":"` + id + `","meter":"evaluations","day":"2026-10-31","at":""}` + "\r\n\r\n" + `{"organization_id":"` + id + `","meter":"storage_bytes","day":"2026-11-28","value":0.0,"at":"2026-11-28T08:00:00Z"}` + "\r\n",
	} {
		format := usagefile.CSV
		if strings.HasPrefix(name, "JSON") {
			format = usagefile.JSONL
		}
		file := read(t, format, content)
		require.Empty(t, file.Problems, name)
		require.Equal(t, want, file.Chunk(1), name)
		require.Equal(t, 2, file.Lines)
		require.Equal(t, "2026-10-31", file.From.String())
		require.Equal(t, "2026-11-28", file.To.String())
	}
}

// Times are those of RFC 3339's grammar, as in the API.
func TestTimes(t *testing.T) {
	t.Parallel()
	for text, why := range map[string]string{
		"2026-11-05T09:00:00.123456789Z": "",
		"2026-11-05t23:59:60z":           "",
		"2026-11-05T18:59:60-05:00":      "",
		"2026-11-06T23:58:00+23:59":      "",
		"2026-11-06T23:59:00+23:59":      `must lie in the day 2026-11-05 (UTC), is "2026-11-06T23:59:00+23:59"`,
		"2026-11-05T9:00:00Z":            "must be a time of the form 2006-01-02T15:04:05Z (RFC 3339), \"2026-11-05T9:00:00Z\" is not: byte 13 must be a digit",
		"2026-11-05T09:00:00,5Z":         "must be a time of the form 2006-01-02T15:04:05Z (RFC 3339), \"2026-11-05T09:00:00,5Z\" is not: it must end in Z, or in an offset of the form +00:00",
		"2026-11-06T09:00:00+24:00":      "must be a time of the form 2006-01-02T15:04:05Z (RFC 3339), \"2026-11-06T09:00:00+24:00\" is not: the offset must be at most 23:59",
		"2026-11-05T18:59:60-06:00":      "must be a time of the form 2006-01-02T15:04:05Z (RFC 3339), \"2026-11-05T18:59:60-06:00\" is not: a second of 60 is a leap second, which only 23:59:60 UTC can be",
	} {
		file := read(t, usagefile.CSV, "organization_id,meter,day,value,at\n"+acme.String()+",evaluations,2026-11-05,1,\""+text+"\"\n")
		if why == "" {
			require.Empty(t, file.Problems, text)
			require.Equal(t, mustDay(t, "2026-11-05"), calendar.DayOf(file.Chunk(1)[0].At))
			continue
		}
		require.Equal(t, []usagefile.Problem{{Line: 2, Field: "at", Rule: why}}, file.Problems, text)
	}
}

// The same bytes are the same source, other bytes another one.
func TestIdentity(t *testing.T) {
	t.Parallel()
	content := "organization_id,meter,day,value\n" + strings.Repeat(acme.String()+",evaluations,2026-10-31,1\n", usagefile.ChunkLines+1)
	file := read(t, usagefile.CSV, content)
	require.Equal(t, 2, file.Chunks())
	require.Len(t, file.Chunk(2), 1)
	require.Equal(t, file.Instance(), read(t, usagefile.CSV, content).Instance())
	require.NotEqual(t, file.Instance(), read(t, usagefile.CSV, content+"\n").Instance())
	require.Len(t, file.SHA256, 64)
	require.EqualValues(t, 8, file.Instance().Version())
	require.Equal(t, map[calendar.Day]int{mustDay(t, "2026-10-01"): usagefile.ChunkLines + 1}, file.LinesByMonth())
}

func TestSumsThatNoDayHolds(t *testing.T) {
	t.Parallel()
	line := fmt.Sprintf("%s,evaluations,2026-10-31,%d\n", acme, int64(plans.MaxQuantity))
	file := read(t, usagefile.CSV, "organization_id,meter,day,value\n"+strings.Repeat(line, 101))
	require.Equal(t, 1, file.Broken)
	require.Equal(t, "line 102: value must not take the sum of its day beyond 100000000000000000", file.Problems[0].String())
}

func mustDay(t *testing.T, s string) calendar.Day {
	t.Helper()
	day, err := calendar.ParseDay(s)
	require.NoError(t, err)
	return day
}

func FuzzRead(f *testing.F) {
	f.Add("organization_id,meter,day,value\n"+acme.String()+",evaluations,2026-10-31,3\n", true)
	f.Add(`{"organization_id":"`+acme.String()+`","meter":"evaluations","day":"2026-10-31","value":3}`, false)
	f.Add("\"\n;", true)
	f.Fuzz(func(t *testing.T, content string, isCSV bool) {
		format := usagefile.JSONL
		if isCSV {
			format = usagefile.CSV
		}
		file := read(t, format, content)
		require.LessOrEqual(t, chunked(file), file.Lines)
		for n := 1; n <= file.Chunks(); n++ {
			for _, r := range file.Chunk(n) {
				require.Equal(t, acme, r.Organization)
				require.True(t, r.Value >= 0 && r.Value <= plans.MaxQuantity)
			}
		}
	})
}
