// Command journal compares Tollgate's journal with other write-ahead logs and with
// the ways of writing that it could have used. README.md says how, and what came out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter/journal"
)

func main() {
	rounds := flag.Int("rounds", 9, "how often each subject is measured; the median counts")
	dir := flag.String("dir", "", "the folder to write in; empty: the system's for temporary files")
	flag.Parse()
	if err := run(os.Stdout, *dir, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// setting is a table: what is measured at once.
type setting struct {
	title             string
	subjects          []subject
	cores, goroutines int
	// appends is how many one measurement takes.
	appends int
}

func settings() []setting {
	var out []setting
	for _, s := range []setting{{cores: 1, goroutines: 1}, {cores: 2, goroutines: 2}, {cores: 2, goroutines: 128}} {
		where := fmt.Sprintf("%d core(s), %d goroutine(s)", s.cores, s.goroutines)
		s.title, s.subjects, s.appends = "survives the process: "+where, processSubjects, 300_000
		out = append(out, s)
		s.title, s.subjects, s.appends = "survives a loss of power: "+where, diskSubjects, 200
		if s.goroutines > 2 {
			s.appends = 4_000
		}
		out = append(out, s)
	}
	return append(out, setting{title: "how a record is laid out: 1 core, 1 goroutine", subjects: layoutSubjects, cores: 1, goroutines: 1, appends: 300_000})
}

func run(out io.Writer, dir string, rounds int) error {
	for _, s := range settings() {
		if err := s.measure(out, dir, rounds); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return nil
}

// sample is what one measurement of a subject came to, for each append.
type sample struct{ wall, cpu, allocations float64 }

// measure takes every subject in turn, round after round, so that what else the
// machine does falls on all of them, and prints medians. The ratio is to the first
// subject in the same round.
func (s setting) measure(out io.Writer, dir string, rounds int) error {
	samples := make([][]sample, len(s.subjects))
	for round := range rounds {
		for i := range s.subjects {
			i = (i + round) % len(s.subjects)
			measured, err := s.once(s.subjects[i], dir)
			if errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s.subjects[i].name, err)
			}
			samples[i] = append(samples[i], measured)
		}
	}
	fmt.Fprintf(out, "\n%s\n", s.title)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "ns/append\tCPU ns/append\tallocs/append\ttime ratio\tCPU ratio\t \t")
	for i, subject := range s.subjects {
		if len(samples[i]) < rounds {
			continue // Not on this system.
		}
		column := func(value func(sample) float64, base bool) float64 {
			var values []float64
			for round, measured := range samples[i] {
				v := value(measured)
				if base {
					v /= value(samples[0][round])
				}
				values = append(values, v)
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		wall := func(s sample) float64 { return s.wall }
		cpu := func(s sample) float64 { return s.cpu }
		fmt.Fprintf(table, "%.0f\t%.0f\t%.1f\t%.2f\t%.2f\t%s\t\n", column(wall, false), column(cpu, false),
			column(func(s sample) float64 { return s.allocations }, false), column(wall, true), column(cpu, true), subject.name)
	}
	return table.Flush()
}

func (s setting) once(subject subject, parent string) (sample, error) {
	dir, err := os.MkdirTemp(parent, "journal")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.cores))
	log, err := subject.open(dir)
	if err != nil {
		return sample{}, err
	}
	runtime.GC()

	var left atomic.Int64
	left.Store(int64(s.appends))
	failures := make(chan error, s.goroutines)
	var appending sync.WaitGroup
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	for range s.goroutines {
		appending.Go(func() {
			append := log.appender()
			for i := 0; left.Add(-1) >= 0; i++ {
				if err := append(i); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	appending.Wait()
	wall, used := time.Since(start), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	select {
	case err := <-failures:
		return sample{}, err
	default:
	}
	n := float64(s.appends)
	return sample{
		wall:        float64(wall.Nanoseconds()) / n,
		cpu:         float64(used.Nanoseconds()) / n,
		allocations: float64(after.Mallocs-before.Mallocs) / n,
	}, log.close()
}

// cpuTime is what the process has used, in the kernel too. On a machine that does
// other things it says more than the clock.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

var meters = []string{"evaluations", "flow_executions", "simulations", "entity_instances", "storage_bytes"}

// newRecord is what every subject appends, its meter changing with i.
func newRecord(organization uuid.UUID, i int) journal.Record {
	return journal.Record{
		Organization: organization,
		Meter:        meters[i%len(meters)],
		Day:          calendar.Day(20_416),
		Quantity:     1,
		At:           1_764_000_000_000_000_000 + int64(i),
	}
}
