package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const lines = `cores: 2
sizes: usual

part: flush
busy: 34.0
pkg: example.com
BenchmarkWriters/writers=1/keys=same-2   5  100 rows/s
BenchmarkWriters/writers=8/keys=same-2   5  50 rows/s  2e+09 slowest-ns
PASS
BenchmarkWriters/writers=1/keys=same-2   5  200 rows/s
BenchmarkWriters/writers=8/keys=same-2   5  180 rows/s  400000000 slowest-ns
BenchmarkWriters/writers=1/keys=same#01-2   5  400 rows/s
BenchmarkWriters/writers=8/keys=same#01-2   5  320 rows/s  600000000 slowest-ns

part: fold
busy: 1.0
BenchmarkFreeze 1 3000000000 ns/op 1.5 x-COPY
`

func results3(t *testing.T) *results {
	t.Helper()
	r, err := read(strings.NewReader(lines), "bench.txt")
	require.NoError(t, err)
	return r
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := results3(t)
	require.Equal(t, []string{"flush", "fold"}, r.parts)
	o, err := r.outcome(&row{subject: "Writers/writers=8/keys=same", peer: "Writers/writers=1/keys=same", unit: "rows/s"})
	require.NoError(t, err)
	require.Equal(t, outcome{figure: 180, peer: 200, ratio: 0.8, low: 0.5, high: 0.9, hasRatio: true}, o)
	o, err = r.outcome(&row{subject: "Freeze", ratio: "x-COPY", unit: "ns/op"})
	require.NoError(t, err)
	require.Equal(t, outcome{figure: 3e9, ratio: 1.5, low: 1.5, high: 1.5, hasRatio: true}, o)
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	r := results3(t)
	missing := r.missing([]row{
		{part: "flush", subject: "Writers/writers=8/keys=same", unit: "rows/s"},
		{part: "flush", subject: "Writers/writers=4/keys=same", unit: "rows/s"},
		{part: "fold", subject: "Freeze", unit: "rows/s"},
	})
	require.Equal(t, map[string][]string{
		"flush": {"Writers/writers=4/keys=same is missing"},
		"fold":  {"Freeze has no rows/s"},
	}, missing)
	_, err := read(strings.NewReader("PASS\n"), "empty.txt")
	require.EqualError(t, err, "empty.txt has no benchmark")
}

func TestTheTableIsTheGolden(t *testing.T) {
	r := results3(t)
	got := r.table([]row{
		{part: "flush", what: "8 writers", beside: "one writer", subject: "Writers/writers=8/keys=same", peer: "Writers/writers=1/keys=same", unit: "rows/s", goal: "writers of the same"},
		{part: "flush", what: "the slowest", subject: "Writers/writers=8/keys=same", unit: "slowest-ns", goal: "the slowest batch"},
		{part: "fold", what: "freeze", beside: "COPY", subject: "Freeze", ratio: "x-COPY", unit: "ns/op", goal: "a fold"},
		{part: "fold", what: "rollup", beside: "COPY", subject: "RollUp", ratio: "x-COPY", unit: "ns/op", goal: "a fold"},
	})
	want, err := os.ReadFile(filepath.Join("testdata", "table.md"))
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestNumbersAsPeopleReadThem(t *testing.T) {
	for _, tt := range []struct {
		value float64
		unit  string
		want  string
	}{
		{132.4, "cpu-ns/op", "132 ns"},
		{1_234, "ns/op", "1.23 µs"},
		{2.1e9, "slowest-ns", "2.10 s"},
		{999.9, "ns/op", "1,000 ns"},
		{62_345, "rows/s", "62,300 rows/s"},
		{1_234_567, "items/s", "1,230,000 items/s"},
		{0.0411, "asks/event", "0.0411 asks/event"},
		{0, "allocs/op", "0 allocs/op"},
		{1.72, "intervals-lag", "1.72 intervals lag"},
		{172, "MiB-peak", "172 MiB peak"},
		{0.98, "", "0.980"},
	} {
		require.Equal(t, tt.want, quantity(tt.value, tt.unit))
	}
}

func TestVerdictsSayHowFar(t *testing.T) {
	most, least := &goal{unit: "ratio", most: 1.2}, &goal{unit: "items/s", least: 500_000}
	require.Equal(t, "met", most.verdict(1.2))
	require.Equal(t, "**not met**, 3.42×", most.verdict(4.1))
	require.Equal(t, "at most 1.2", most.bound())
	require.Equal(t, "met", least.verdict(500_000))
	require.Equal(t, "**not met**, 2.00×", least.verdict(250_000))
	require.Equal(t, "at least 500,000 items/s", least.bound())
	require.Equal(t, "at most 500 ms", (&goal{unit: "slowest-ns", most: 500e6}).bound())
	require.Equal(t, "at most 0.01 allocs/op", (&goal{unit: "allocs/op", most: 0.01}).bound())
}

// TestEveryGoalBindsRows holds that no goal is forgotten, that each row's is there and is of the row's
// unit, and that each part has rows.
func TestEveryGoalBindsRows(t *testing.T) {
	for _, s := range []sizes{usual, full, tiny} {
		bound, shown := map[string]bool{}, map[string]bool{}
		for _, w := range rows(s) {
			shown[w.part] = true
			g := goalNamed(w.goal)
			if g == nil {
				continue
			}
			bound[g.name] = true
			require.NotEmpty(t, g.source)
			require.NotEqual(t, g.most == 0, g.least == 0, g.name)
			if g.unit == "ratio" {
				require.True(t, w.peer != "" || w.ratio != "", "%s has no ratio", w.what)
			} else {
				require.Equal(t, g.unit, w.unit, w.what)
			}
		}
		require.Len(t, bound, len(goals))
		for _, p := range parts {
			require.True(t, shown[p.name], p.name)
		}
	}
}

func TestOnlyWhatWasMeasuredIsKept(t *testing.T) {
	for line, want := range map[string]bool{
		"BenchmarkX-2   \t       5\t  100 ns/op": true,
		"BenchmarkX 1 0.041 asks/event":          true,
		"postgres: 15.18":                        true,
		"BenchmarkX":                             false,
		"goos: linux":                            false,
		"PASS":                                   false,
		"    bench_test.go:1: BenchmarkX 1 2 x":  false,
	} {
		require.Equal(t, want, measured(line), line)
	}
}

func TestAPartThatFailsIsInTheTable(t *testing.T) {
	o := options{out: filepath.Join(t.TempDir(), "bench.txt"), sizes: tiny}
	broken := part{name: "memory", commands: func(sizes) []command { return []command{{program: "./no-such-program"}} }}
	failed, err := o.measure(t.Context(), []part{broken}, nil)
	require.NoError(t, err)
	require.ErrorContains(t, failed["memory"], "no-such-program")
	missing, err := o.show(o.out)
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"memory": {"IdleOrganization is missing"}}, missing)
}

func TestTheTableIsWrittenBetweenItsMarks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(name, []byte("a\n"+tableBegins+"old\n"+tableEnds+"z\n"), 0o600))
	require.NoError(t, write(name, "new\n"))
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "a\n"+tableBegins+"\nnew\n\n"+tableEnds+"z\n", string(text))
	require.NoError(t, os.WriteFile(name, []byte("a\n"), 0o600))
	require.ErrorContains(t, write(name, "new\n"), "lacks a line")
}

func TestAPartThatFailsIsNamed(t *testing.T) {
	broken := part{name: "broken", commands: func(sizes) []command {
		return []command{{program: "./no-such-program"}}
	}}
	err := broken.run(t.Context(), nil, tiny, os.Stderr)
	require.ErrorContains(t, err, "no-such-program")
	require.EqualError(t, failures([]part{broken}, map[string]error{"broken": os.ErrClosed}), "part broken failed: file already closed")
	_, err = choose("http nothing")
	require.ErrorContains(t, err, `there is no part "nothing"`)
	chosen, err := choose("http|flush")
	require.NoError(t, err)
	require.Len(t, chosen, 2)
	_, err = parse([]string{"-short", "-write"})
	require.ErrorContains(t, err, "leave out")
}
