// Command decision compares what Tollgate takes to find an organization, to decide and to count, with
// the structures that one would use instead. It writes benchmark lines; README.md of bench/ says how.
package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/internal/benchline"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each subject is measured")
	flag.IntVar(&o.operations, "operations", 1_000_000, "how many operations one measurement takes")
	flag.StringVar(&o.dir, "dir", "", "the folder of the journal; empty: the system's for temporary files")
	list := flag.String("organizations", "10000,1000000", "of how many; several one after the other")
	only := flag.String("only", "", "the subject that alone is measured, with a processor's profile in decision.pprof")
	cores := flag.Int("cores", 1, "on how many, with -only")
	flag.Parse()
	for _, one := range strings.Split(*list, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "-organizations %s: %q must be a number above 0\n", *list, one)
			os.Exit(2)
		}
		o.organizations = append(o.organizations, n)
	}
	var err error
	if *only == "" {
		err = o.run(os.Stdout)
	} else {
		err = o.profile(*only, setting{organizations: o.organizations[0], cores: *cores})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are what the program was asked for.
type options struct {
	rounds, operations int
	dir                string
	organizations      []int
}

// draws is how many keys are drawn beforehand, so that drawing them isn't measured. A power of two.
const draws = 1 << 20

// setting is how a subject is measured.
type setting struct {
	organizations, cores int
	zipf                 bool
	order                []int32
}

func (s setting) name() string {
	keys := "uniform"
	if s.zipf {
		keys = "zipf"
	}
	return fmt.Sprintf("Decision/organizations=%d/cores=%d/keys=%s", s.organizations, s.cores, keys)
}

func (o options) run(out io.Writer) error {
	for _, organizations := range o.organizations {
		if err := o.of(out, organizations); err != nil {
			return err
		}
	}
	return nil
}

// of measures every subject in each setting in turn, round after round, so that what else the machine
// does falls on all of them.
func (o options) of(out io.Writer, organizations int) error {
	ids := identities(organizations)
	made := make([]func(int) bool, len(subjects))
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for i, s := range subjects {
		use, end, err := s.make(ids, o.dir)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		made[i], ends = use, append(ends, end)
	}
	var settings []setting
	for _, zipf := range []bool{false, true} {
		for _, cores := range []int{1, 2} {
			s := setting{organizations: organizations, cores: cores, zipf: zipf}
			s.order = s.draw()
			settings = append(settings, s)
		}
	}
	for round := range o.rounds {
		for _, s := range settings {
			for i := range subjects {
				i = (i + round) % len(subjects)
				one, err := s.once(made[i], o.operations)
				if err != nil {
					return fmt.Errorf("%s: %w", subjects[i].name, err)
				}
				if err := benchline.Write(out, s.name()+"/subject="+subjects[i].name, o.operations, one); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func identities(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

// draw draws the organizations that operations are of.
func (s setting) draw() []int32 {
	random := rand.New(rand.NewPCG(1, uint64(s.organizations)))
	zipf := rand.NewZipf(random, 1.1, 1, uint64(s.organizations-1))
	order := make([]int32, draws)
	for i := range order {
		if s.zipf {
			order[i] = int32(zipf.Uint64())
		} else {
			order[i] = int32(random.IntN(s.organizations))
		}
	}
	return order
}

// once measures one subject once, with a goroutine on each core: an operation by the clock, for all cores
// together, and of processors.
func (s setting) once(use func(int) bool, operations int) (benchline.Figures, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.cores))
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	refused := make([]int, s.cores)
	var all sync.WaitGroup
	began, used := time.Now(), processorTime()
	for core := range s.cores {
		all.Go(func() {
			at, missed := core*(draws/s.cores), 0
			for range operations / s.cores {
				if !use(int(s.order[at&(draws-1)])) {
					missed++
				}
				at++
			}
			refused[core] = missed
		})
	}
	all.Wait()
	took, used := time.Since(began), processorTime()-used
	runtime.ReadMemStats(&after)
	if slices.Max(refused) > 0 {
		return nil, fmt.Errorf("%d operations were refused: something else was measured", slices.Max(refused))
	}
	n := float64(operations / s.cores * s.cores)
	return benchline.Figures{
		"ns/op":     float64(took.Nanoseconds()) / n,
		"cpu-ns/op": float64(used.Nanoseconds()) / n,
		// Those of the goroutines themselves included.
		"allocs/op": float64(after.Mallocs-before.Mallocs) / n,
	}, nil
}

// processorTime is what the process has used of processors, which says more than the clock where the
// machine is shared.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
