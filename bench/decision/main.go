// Command decision compares what Tollgate takes to find an organization, to decide and to count, with
// the structures that one would use instead. README.md says how, and what came out.
package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
)

func main() {
	rounds := flag.Int("rounds", 7, "how often each subject is measured; the median counts")
	operations := flag.Int("operations", 1_000_000, "how many operations one measurement takes")
	dir := flag.String("dir", "", "the folder of the journal; empty: the system's for temporary files")
	only := flag.String("only", "", "the subject that alone is measured, with a processor's profile in decision.pprof")
	organizations := flag.Int("organizations", 10_000, "of how many, with -only")
	cores := flag.Int("cores", 1, "on how many, with -only")
	flag.Parse()
	measure := func() error { return run(os.Stdout, *dir, *rounds, *operations) }
	if *only != "" {
		measure = func() error {
			return profile(*only, *dir, setting{organizations: *organizations, cores: *cores}, *rounds, *operations)
		}
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// draws is how many keys are drawn beforehand, so that drawing them isn't measured. A power of two.
const draws = 1 << 20

// setting is a table.
type setting struct {
	organizations, cores int
	zipf                 bool
}

func run(out io.Writer, dir string, rounds, operations int) error {
	for _, organizations := range []int{10_000, 1_000_000} {
		ids := make([]uuid.UUID, organizations)
		for i := range ids {
			ids[i] = uuid.New()
		}
		made := make([]made, len(subjects))
		for i, s := range subjects {
			use, end, err := s.make(ids, dir)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			made[i].use, made[i].end = use, end
		}
		for _, s := range []setting{{organizations, 1, false}, {organizations, 2, false}, {organizations, 2, true}} {
			if err := s.measure(out, made, rounds, operations); err != nil {
				return err
			}
		}
		for _, m := range made {
			m.end()
		}
	}
	return nil
}

// made is a subject with its organizations.
type made struct {
	use func(i int) bool
	end func()
}

// sample is what one operation came to: by the clock, and of processors, in nanoseconds.
type sample struct{ wall, cpu, allocations float64 }

// measure takes every subject in turn, round after round, so that what else the machine does falls
// on all of them, and prints medians. A ratio is of processor time, to the sharded map in the same round.
func (s setting) measure(out io.Writer, made []made, rounds, operations int) error {
	order := s.draw()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.cores))
	samples := make([][]sample, len(subjects))
	for round := range rounds {
		for i := range subjects {
			i = (i + round) % len(subjects)
			one, err := s.once(made[i].use, order, operations)
			if err != nil {
				return fmt.Errorf("%s: %w", subjects[i].name, err)
			}
			samples[i] = append(samples[i], one)
		}
	}
	keys := "uniform keys"
	if s.zipf {
		keys = "keys by Zipf, s = 1.1"
	}
	_, _ = fmt.Fprintf(out, "\n%d organizations, %d core(s), %s\n", s.organizations, s.cores, keys)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "subject\tns\tns of CPU\tto the sharded map\tallocations\treads the clock")
	for i, subject := range subjects {
		ratios := make([]float64, rounds)
		for round := range rounds {
			ratios[round] = samples[i][round].cpu / samples[reference][round].cpu
		}
		_, _ = fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.2f\t%.2f\t%s\n", subject.name,
			median(samples[i], func(s sample) float64 { return s.wall }),
			median(samples[i], func(s sample) float64 { return s.cpu }), middle(ratios),
			median(samples[i], func(s sample) float64 { return s.allocations }), subject.clock)
	}
	return table.Flush()
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

// once measures one subject once, with a goroutine on each core.
func (s setting) once(use func(int) bool, order []int32, operations int) (sample, error) {
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
				if !use(int(order[at&(draws-1)])) {
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
		return sample{}, fmt.Errorf("%d operations were refused: something else was measured", slices.Max(refused))
	}
	n := float64(operations / s.cores * s.cores)
	return sample{wall: float64(took.Nanoseconds()) / n, cpu: float64(used.Nanoseconds()) / n, allocations: float64(after.Mallocs-before.Mallocs) / n}, nil
}

func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return middle(values)
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
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
