package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// figures are what the runs came to, by fault.
type figures struct {
	seeds []uint64
	rows  map[string]*figure
	whole figure
}

// figure is what the stretches came to in which a fault was.
type figure struct {
	promise   string
	runs      int
	sum       stored
	recovered time.Duration
}

// add notes what changed from one account to the next with each fault of the stretch.
func (f *figures) add(faults []fault, before, now stored, recovered time.Duration) {
	f.whole.add(before, now, recovered)
	f.whole.runs += len(faults)
	noted := map[string]bool{}
	for _, one := range faults {
		row := f.rows[one.name]
		if row == nil {
			row = &figure{promise: one.promise}
			f.rows[one.name] = row
		}
		row.runs++
		if !noted[one.name] {
			noted[one.name] = true
			row.add(before, now, recovered)
		}
	}
}

func (f *figure) add(before, now stored, recovered time.Duration) {
	f.sum.acknowledged += now.acknowledged - before.acknowledged
	f.sum.unanswered += now.unanswered - before.unanswered
	f.sum.stored += now.stored - before.stored
	f.sum.lost += max(0, now.lost-before.lost)
	f.sum.doubled += max(0, now.doubled-before.doubled)
	f.sum.over += max(0, now.over-before.over)
	f.recovered = max(f.recovered, recovered)
}

func (f *figure) columns() string {
	return fmt.Sprintf("%d | %d | %d | %d | %d | %d | %d | %.1f |", f.runs, f.sum.acknowledged, f.sum.unanswered, f.sum.stored, f.sum.lost, f.sum.doubled, f.sum.over, f.recovered.Seconds())
}

// guarantees is docs/guarantees.md up to its table: command, seeds, minutes of each, machine, day.
const guarantees = `# Guarantees

What is promised when something breaks, and what a run came to in which it broke. The run writes
this page; it is not edited by hand. The method is in [chaos.md](chaos.md).

- Command: ` + "`%s`" + `
- Seeds: %s; at least %d minutes each
- Machine: %d cores of %s/%s, shared with the load and the servers; %s

Faults come mixed, up to three in a stretch. A row adds up all stretches in which its fault was, so
that one stretch is in several rows, and once in the last. Figures are units of sums; *unanswered*
is what was sent and got no answer, so that it may be stored or not. The run fails where anything is
lost or doubled, and where a limit is passed in a stretch in which Postgres didn't go back in time.
*Seconds to recover* is the greatest time from the begin of healing until each replica has
acknowledged a report and flushed.

| fault | promise | runs | acknowledged | unanswered | stored | lost | doubled | over the limit | seconds to recover |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
`

// write writes docs/guarantees.md, where CHAOS_WRITE asks for it. Each fault must have been drawn.
func (f *figures) write(t *testing.T, minutes int) {
	t.Helper()
	var page strings.Builder
	var seeds []string
	for _, seed := range f.seeds {
		seeds = append(seeds, fmt.Sprint(seed))
	}
	command := fmt.Sprintf("make guarantees CHAOS_MINUTES=%d CHAOS_ROUNDS=%d", minutes, len(seeds))
	if len(seeds) > 0 {
		command += " CHAOS_SEED=" + seeds[0]
	}
	fmt.Fprintf(&page, guarantees, command, strings.Join(seeds, ", "), minutes, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, time.Now().UTC().Format(time.DateOnly))
	for _, name := range slices.Sorted(maps.Keys(f.rows)) {
		fmt.Fprintf(&page, "| %s | %s | %s\n", name, f.rows[name].promise, f.rows[name].columns())
	}
	fmt.Fprintf(&page, "| all, mixed | what each row says | %s\n", f.whole.columns())
	t.Log(page.String())
	if os.Getenv("CHAOS_WRITE") == "" {
		return
	}
	for _, fault := range new(chaos).faults(true) {
		require.Contains(t, f.rows, fault.name, "it was never drawn: the run was too short")
	}
	require.NoError(t, os.WriteFile(filepath.Join("..", "docs", "guarantees.md"), []byte(page.String()), 0o644))
}
