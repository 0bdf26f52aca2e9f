package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/riverline/tollgate/internal/benchline"
)

// document has the table of one run.
var document = filepath.Join("..", "docs", "benchmarks.md")

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are what the program was asked for.
type options struct {
	parts, read, inside, out string
	sizes                    sizes
	whole, write             bool
}

func parse(args []string) (options, error) {
	o := options{sizes: usual}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.parts, "parts", "", "the parts that are run, separated by commas or |; empty: all")
	rounds := flags.Int("rounds", 0, "how often each thing is measured; 0: as often as the sizes say")
	short := flags.Bool("short", false, "run everything with tiny sizes, to see that it works")
	more := flags.Bool("full", false, "measure rollups, freezes and closes of a million organizations, too")
	flags.BoolVar(&o.write, "write", false, "write the table into docs/benchmarks.md")
	flags.StringVar(&o.out, "out", filepath.Join("..", "bin", "bench.txt"), "the file of benchmark lines")
	flags.StringVar(&o.read, "read", "", "a file of benchmark lines to make the table of, without running anything")
	flags.StringVar(&o.inside, "inside", "", "for the program itself: a part, whose servers run")
	if err := flags.Parse(args); err != nil {
		return o, err //nolint:wrapcheck // It was printed, with the usage.
	}
	switch {
	case *short:
		o.sizes = tiny
	case *more:
		o.sizes = full
	}
	if *rounds > 0 {
		o.sizes.rounds = *rounds
	}
	o.whole = o.parts == "" && !*short
	if o.write && !o.whole && o.read == "" {
		return o, errors.New("BENCH_WRITE: the table is of one run of all parts: leave out BENCH and BENCH_SHORT")
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	switch {
	case err != nil:
		return err
	case o.inside != "":
		chosen, err := choose(o.inside)
		if err != nil {
			return err
		}
		return chosen[0].inside(ctx, o.sizes, os.Stdout)
	case o.read != "":
		_, err := o.show(o.read)
		return err
	}
	chosen, err := choose(o.parts)
	if err != nil {
		return err
	}
	failed, err := o.measure(ctx, chosen, args)
	if err != nil {
		return err
	}
	missing, err := o.show(o.out)
	if err != nil {
		return err
	}
	for _, p := range chosen {
		if _, has := failed[p.name]; !has && len(missing[p.name]) > 0 {
			failed[p.name] = errors.New(strings.Join(missing[p.name], "; "))
		}
	}
	return failures(chosen, failed)
}

// choose returns the parts that a list names; all where it is empty.
func choose(names string) ([]part, error) {
	if names == "" {
		return parts, nil
	}
	var out []part
	for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == '|' || r == ' ' }) {
		at := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if at < 0 {
			var all []string
			for _, p := range parts {
				all = append(all, p.name)
			}
			return nil, fmt.Errorf("there is no part %q: the parts are %s", name, strings.Join(all, ", "))
		}
		out = append(out, parts[at])
	}
	return out, nil
}

// measure runs parts, and writes their lines to a file. It returns why some have failed.
func (o options) measure(ctx context.Context, chosen []part, args []string) (failed map[string]error, err error) {
	facts := machine(time.Now())
	facts["commit"], facts["sizes"], facts["rounds"] = commit(ctx), o.sizes.name, fmt.Sprint(o.sizes.rounds)
	if err := os.MkdirAll(filepath.Dir(o.out), 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of the results: %w", err)
	}
	file, err := os.Create(o.out)
	if err != nil {
		return nil, fmt.Errorf("write the results: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := head(file, facts); err != nil {
		return nil, err
	}
	failed = map[string]error{}
	for _, p := range chosen {
		began := time.Now()
		used := busy(time.Second)
		if used > idleEnough {
			fmt.Fprintf(os.Stderr, "%s: the machine is not idle: others use %.0f %% of it\n", p.name, used)
		}
		if _, err := fmt.Fprintf(file, "\npart: %s\nbusy: %.1f\n", p.name, used); err != nil {
			return nil, fmt.Errorf("write the results: %w", err)
		}
		if err := p.run(ctx, args, o.sizes, file); err != nil {
			failed[p.name] = err
			fmt.Fprintf(os.Stderr, "%s: FAILED: %v\n", p.name, err)
			// The table then has the part, whose rows have failed.
			if err := benchline.Write(file, "Failed/part="+p.name, 1, benchline.Figures{"failures": 1}); err != nil {
				return nil, fmt.Errorf("write the results: %w", err)
			}
		}
		fmt.Fprintf(os.Stderr, "%-9s %s\n", p.name, time.Since(began).Round(time.Second))
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
	}
	return failed, nil
}

// head writes what the run stands on.
func head(file io.Writer, facts map[string]string) error {
	for _, fact := range machineFacts {
		if value := facts[fact.key]; value != "" {
			if _, err := fmt.Fprintf(file, "%s: %s\n", fact.key, value); err != nil {
				return fmt.Errorf("write the results: %w", err)
			}
		}
	}
	return nil
}

// show prints the table of a file of benchmark lines, writes it into the document where that is asked
// for, and returns what should be in it and isn't.
func (o options) show(name string) (missing map[string][]string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r, err := read(file, name)
	if err != nil {
		return nil, err
	}
	s := sizesNamed(r.machine["sizes"])
	all := r.known(rows(s))
	missing = r.missing(all)
	table := r.table(all)
	fmt.Println(table)
	if o.write {
		if len(r.parts) < len(parts) || s.name == tiny.name {
			return missing, errors.New("the table was not written: it is of one run of all parts")
		}
		return missing, write(document, table)
	}
	return missing, nil
}

func sizesNamed(name string) sizes {
	for _, s := range []sizes{tiny, full} {
		if s.name == name {
			return s
		}
	}
	return usual
}

// failures says which parts have failed.
func failures(chosen []part, failed map[string]error) error {
	var out []error
	for _, p := range chosen {
		if err, has := failed[p.name]; has {
			out = append(out, fmt.Errorf("part %s failed: %w", p.name, err))
		}
	}
	return errors.Join(out...)
}
