// Command journal compares Tollgate's journal with other write-ahead logs and with the ways of writing
// that it could have used. It writes benchmark lines; README.md says how, and what was chosen.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/benchline"
	"github.com/riverline/tollgate/meter/journal"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each subject is measured")
	flag.IntVar(&o.appends, "appends", 300_000, "how many appends one measurement takes; of those that survive a loss of power, 200 at most by few goroutines and 4,000 by many")
	flag.StringVar(&o.dir, "dir", "", "the folder to write in; empty: the system's for temporary files")
	flag.Parse()
	for _, s := range o.settings() {
		if err := s.measure(os.Stdout, o.dir, o.rounds); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", s.title, err)
			os.Exit(1)
		}
	}
}

// options are what the program was asked for.
type options struct {
	rounds, appends int
	dir             string
}

// setting is what is measured at once.
type setting struct {
	title             string
	subjects          []subject
	cores, goroutines int
	// appends is how many one measurement takes.
	appends int
}

func (o options) settings() []setting {
	var out []setting
	for _, s := range []setting{{cores: 1, goroutines: 1}, {cores: 2, goroutines: 2}, {cores: 2, goroutines: 128}} {
		s.title, s.subjects, s.appends = "survives=process", processSubjects, o.appends
		out = append(out, s)
		s.title, s.subjects, s.appends = "survives=power", diskSubjects, min(o.appends, 200)
		if s.goroutines > 2 {
			s.appends = min(o.appends, 4_000)
		}
		out = append(out, s)
	}
	return append(out, setting{title: "layout", subjects: layoutSubjects, cores: 1, goroutines: 1, appends: o.appends})
}

// measure takes every subject in turn, round after round, so that what else the machine does falls on
// all of them.
func (s setting) measure(out io.Writer, dir string, rounds int) error {
	for round := range rounds {
		for i := range s.subjects {
			subject := s.subjects[(i+round)%len(s.subjects)]
			measured, err := s.once(subject, dir)
			if errors.Is(err, errors.ErrUnsupported) {
				continue // Not on this system.
			}
			if err != nil {
				return fmt.Errorf("%s: %w", subject.name, err)
			}
			name := fmt.Sprintf("Journal/%s/cores=%d/goroutines=%d/subject=%s", s.title, s.cores, s.goroutines, subject.name)
			if err := benchline.Write(out, name, s.appends, measured); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s setting) once(subject subject, parent string) (benchline.Figures, error) {
	dir, err := os.MkdirTemp(parent, "journal")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.cores))
	log, err := subject.open(dir)
	if err != nil {
		return nil, err
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
			appendOne := log.appender()
			for i := 0; left.Add(-1) >= 0; i++ {
				if err := appendOne(i); err != nil {
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
		return nil, err
	default:
	}
	n := float64(s.appends)
	return benchline.Figures{
		"ns/op":     float64(wall.Nanoseconds()) / n,
		"cpu-ns/op": float64(used.Nanoseconds()) / n,
		"allocs/op": float64(after.Mallocs-before.Mallocs) / n,
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
