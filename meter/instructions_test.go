//go:build instructions

package meter_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/meter/metertest"
)

var record = flag.Bool("record", false, "write testdata/instructions.txt anew")

// tolerance is by how much a count may differ from the one that was recorded.
const tolerance = 0.03

// operations are what is counted, by name: each makes what does it once.
var operations = []struct {
	name string
	make func() func()
}{
	{"find-admit-commit, without a limit", func() func() { return admitting("enterprise", nil) }},
	{"find-admit-commit, out of a lease", func() func() { return admitting("large", nil) }},
	{"find-admit-commit, out of a lease, journal", func() func() { return admitting("large", anyJournal()) }},
	{"find-use, without a limit", func() func() { return using("enterprise", nil) }},
	{"find-use, out of a lease", func() func() { return using("large", nil) }},
	{"find-use, out of a lease, journal", func() func() { return using("large", anyJournal()) }},
	{"journal: append", func() func() {
		j := anyJournal()
		r := journal.Record{Organization: uuid.New(), Meter: "evaluations", Quantity: 1, At: noon.UnixNano()}
		return func() {
			if _, err := j.Append(r); err != nil {
				panic("it is not appended")
			}
		}
	}},
}

func oneOrganization(plan string, log meter.Journal) (*meter.Meter, uuid.UUID) {
	store := metertest.OnPlan(plan)
	m := meter.New(meter.Config{Catalog: benchCatalog(), Store: store, Leases: store, Instance: uuid.New(), Journal: log, Now: readNoon})
	return m, uuid.MustParse("01a22505-b6d5-77fd-9507-d885c9964362")
}

func found(m *meter.Meter, id uuid.UUID) *meter.Organization {
	o, err := m.Organization(context.Background(), id, noon)
	if err != nil {
		panic(err)
	}
	return o
}

func anyJournal() *journal.Journal {
	folder, err := os.MkdirTemp("", "tollgate-instructions-")
	if err != nil {
		panic(err)
	}
	j, err := journal.Open(journal.Config{Dir: folder, Instance: uuid.Must(uuid.NewV7())})
	if err != nil {
		panic(err)
	}
	return j
}

// leaseOfAll finds an organization that has a lease for what is counted.
func leaseOfAll(plan string, log *journal.Journal) (*meter.Meter, uuid.UUID) {
	var kept meter.Journal
	if log != nil {
		kept = log
	}
	m, id := oneOrganization(plan, kept)
	_, held, err := found(m, id).Admit(context.Background(), 0, 1_000_000, noon)
	if err != nil {
		panic(err)
	}
	held.Release()
	return m, id
}

func using(plan string, log *journal.Journal) func() {
	m, id := leaseOfAll(plan, log)
	ctx := context.Background()
	return func() {
		o, _ := m.Organization(ctx, id, noon)
		if out, err := o.Use(ctx, 0, 1, noon, nil); err != nil || !out.Decision.Allowed {
			panic("it is not admitted")
		}
	}
}

func admitting(plan string, log *journal.Journal) func() {
	m, id := leaseOfAll(plan, log)
	ctx := context.Background()
	return func() {
		o, _ := m.Organization(ctx, id, noon)
		d, r, err := o.Admit(ctx, 0, 1, noon)
		if err != nil || !d.Allowed || r.TryCommit() != nil {
			panic("it is not admitted")
		}
	}
}

// The program that is counted is this one, with these variables.
const operationVariable, timesVariable = "METER_OPERATION", "METER_TIMES"

// init is before the tests: where the variables are set, this is the program that is counted.
func init() {
	name := os.Getenv(operationVariable)
	if name == "" {
		return
	}
	times, err := strconv.Atoi(os.Getenv(timesVariable))
	if err != nil {
		panic(err)
	}
	for _, operation := range operations {
		if operation.name == name {
			do := operation.make()
			for range times {
				do()
			}
		}
	}
	os.Exit(0)
}

// TestInstructions counts the instructions of what each request does, with Valgrind: unlike times they are
// the same on a busy machine. A count that has grown is a regression; one that has fallen is recorded anew,
// so that it stays.
func TestInstructions(t *testing.T) {
	path := filepath.Join("testdata", "instructions.txt")
	lines := []string{"# Instructions of an operation, " + runtime.GOARCH + ", by TestInstructions -record."}
	kept, err := os.ReadFile(path)
	if !*record {
		require.NoError(t, err)
	}
	for _, operation := range operations {
		counted := instructions(t, operation.name)
		lines = append(lines, fmt.Sprintf("%s: %d", operation.name, counted))
		if *record {
			continue
		}
		before := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(operation.name) + `: (\d+)$`).FindSubmatch(kept)
		require.NotNil(t, before, "%s: no count is recorded of %q", path, operation.name)
		want, err := strconv.ParseFloat(string(before[1]), 64)
		require.NoError(t, err)
		t.Logf("%s: %d instructions, %.0f recorded", operation.name, counted, want)
		if differs := float64(counted)/want - 1; math.Abs(differs) > tolerance {
			t.Errorf("%s: %d instructions, %+.1f %% of what is recorded in %s", operation.name, counted, 100*differs, path)
		}
	}
	if *record {
		require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	}
}

// instructions is what one more operation takes: what two programs take that differ by 100,000.
func instructions(t *testing.T, operation string) int64 {
	t.Helper()
	const less, more = 20_000, 120_000
	return (total(t, operation, more) - total(t, operation, less)) / (more - less)
}

var collected = regexp.MustCompile(`Collected : (\d+)`)

// total counts the instructions of a program. Valgrind fails at times on signals of Go's runtime, which
// these settings avoid, and some versions of it do not know an instruction that reads the clock.
func total(t *testing.T, operation string, times int) int64 {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program)
	command.Env = append(os.Environ(), operationVariable+"="+operation, timesVariable+"="+strconv.Itoa(times),
		"GODEBUG=asyncpreemptoff=1,cpu.rdtscp=off", "GOMAXPROCS=1", "GOGC=off", "TMPDIR="+t.TempDir())
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	found := collected.FindSubmatch(out)
	require.NotNil(t, found, "%s", out)
	n, err := strconv.ParseInt(string(found[1]), 10, 64)
	require.NoError(t, err)
	return n
}
