package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// sizes are how much a run measures.
type sizes struct {
	// name is what the table says of them.
	name string
	// rounds is how often each thing is measured; folds that of rollups and freezes, of which the seeding
	// takes long.
	rounds, folds int
	// organizations are those that a decision finds, few and many; operations how many decisions one
	// measurement takes, appends how many of the journal's.
	organizations       [2]int
	operations, appends int
	// long is a measurement over HTTP, keyed one of reports with identities, economy that of an
	// instance at Temporal.
	long, keyed, economy time.Duration
	// batches is how many each writer flushes, of so many rows.
	batches, rows int
	// folded are the organizations of rollups and freezes, closed those of closes.
	folded, closed []int
	// perDay is how many batches of a day have a row of each organization and meter.
	perDay int
	// events is how many are dispatched, commits how many recall quota.
	events, commits int
}

// The sizes of a run: those for the record, those with a million organizations, and those that only
// see that all of it works.
var (
	usual = sizes{
		name: "usual", rounds: 3, folds: 1, organizations: [2]int{10_000, 1_000_000}, operations: 1_000_000, appends: 300_000,
		long: 3 * time.Second, keyed: 30 * time.Second, economy: 3 * time.Minute, batches: 5, rows: 10_000,
		folded: []int{10_000, 100_000}, closed: []int{10_000, 100_000}, perDay: 10, events: 1000, commits: 2000,
	}
	full = func() sizes {
		s := usual
		s.name, s.economy = "full: BENCH_FULL=1", 12*time.Minute
		s.folded, s.closed = append(s.folded, 1_000_000), append(s.closed, 1_000_000)
		return s
	}()
	tiny = sizes{
		name: "tiny, BENCH_SHORT=1: these figures mean nothing", rounds: 1, folds: 1, organizations: [2]int{100, 1000}, operations: 10_000, appends: 1000,
		long: 300 * time.Millisecond, keyed: 3 * time.Second, economy: 5 * time.Second, batches: 1, rows: 200,
		folded: []int{100, 200}, closed: []int{100, 200}, perDay: 2, events: 50, commits: 50,
	}
)

// part is what is measured together: commands, one after the other.
type part struct {
	name string
	// servers says that it needs Postgres and Temporal.
	servers  bool
	commands func(s sizes) []command
}

// command is a program that writes benchmark lines.
type command struct {
	// test is the package of a test program, from the product's root, or from bench/ where it begins
	// with "bench/"; program that of another one.
	test, program string
	// tags are those that it is built with.
	tags string
	args []string
	// environment is added to this program's.
	environment []string
	// inner says that it measures all rounds itself; else it runs once a round.
	inner bool
}

// parts are all of them, in the order in which they run.
var parts = []part{
	{"decision", false, func(s sizes) []command {
		return []command{{program: "./decision", inner: true, args: []string{
			"-rounds", strconv.Itoa(s.rounds), "-operations", strconv.Itoa(s.operations), "-organizations", list(s.organizations[:]),
		}}}
	}},
	{"memory", false, func(sizes) []command {
		return []command{{test: "./meter", inner: true, args: []string{"-test.run", "^TestIdleOrganizationsAreSmall$"}}}
	}},
	{"asks", false, func(sizes) []command {
		return []command{{test: "./meter", inner: true, args: []string{"-test.run", "^TestFewAsksHoweverSlow$"}}}
	}},
	{"journal", false, func(s sizes) []command {
		return []command{{program: "./journal", inner: true, args: []string{"-rounds", strconv.Itoa(s.rounds), "-appends", strconv.Itoa(s.appends)}}}
	}},
	{"decimal", false, func(s sizes) []command {
		return []command{{test: "bench/decimal", args: benchmarks(".", s.operations/10)}}
	}},
	{"batch", false, func(s sizes) []command {
		return []command{{test: "./api", args: benchmarks("^BenchmarkRecordBatch$", max(1, s.operations/5000))}}
	}},
	{"http", true, func(s sizes) []command {
		return []command{{test: "./e2e", tags: "bench", inner: true, args: []string{
			"-test.run", "^TestBenchHTTP$", "-rounds", strconv.Itoa(s.rounds), "-long", s.long.String(),
		}}}
	}},
	{"keyed", true, func(s sizes) []command {
		return []command{{test: "./e2e", tags: "bench", inner: true, args: []string{
			"-test.run", "^TestBenchKeyed$", "-rounds", strconv.Itoa(s.rounds), "-long", s.keyed.String(),
		}}}
	}},
	{"flush", true, func(s sizes) []command {
		return []command{{test: "./pgstore", args: append(benchmarks("^BenchmarkWriters", s.batches), "-rows", strconv.Itoa(s.rows))}}
	}},
	{"fold", true, func(s sizes) []command {
		return []command{{test: "./pgstore", inner: true, args: append(benchmarks("^Benchmark(RollUpDay|FreezeExport)$", 1),
			"-organizations", list(s.folded), "-batches", strconv.Itoa(s.perDay), "-rounds", strconv.Itoa(s.folds))}}
	}},
	{"close", true, func(s sizes) []command {
		return []command{{
			test: "./e2e", tags: "bench", inner: true, args: []string{"-test.run", "^TestACloseScales$"},
			environment: []string{"TOLLGATE_CLOSE_ORGANIZATIONS=" + list(s.closed)},
		}}
	}},
	{"temporal", true, func(s sizes) []command {
		return []command{{test: "./workflows", inner: true, args: []string{"-test.run", "^TestServerAnInstanceIsCheap$", "-economy", s.economy.String()}}}
	}},
	{"dispatch", true, func(s sizes) []command {
		return []command{{test: "./cmd/internal/app/servertest", args: append(benchmarks("^BenchmarkDispatch$", 1), "-events", strconv.Itoa(s.events))}}
	}},
	{"recall", true, func(s sizes) []command {
		return []command{{test: "./pgstore", args: benchmarks("^BenchmarkRecall$/listeners=(0|50|300)$/shared=false$", s.commits)}}
	}},
}

// benchmarks are the arguments of a test program that runs benchmarks alone, each so many times.
func benchmarks(pattern string, times int) []string {
	return []string{"-test.run", "^$", "-test.bench", pattern, "-test.benchmem", "-test.benchtime", fmt.Sprintf("%dx", times)}
}

func list(numbers []int) string {
	text := make([]string, len(numbers))
	for i, n := range numbers {
		text[i] = strconv.Itoa(n)
	}
	return strings.Join(text, ",")
}
