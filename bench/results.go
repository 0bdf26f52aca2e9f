package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// results are what a run has measured: figures by the benchmark's name, one a round, in the order of
// the rounds; and what is known of the machine.
type results struct {
	of map[string][]map[string]float64
	// machine has the configuration lines of the file: "cores", "go", …
	machine map[string]string
	// parts are those that were run, in their order; busy is how much of the machine others used
	// before each, in percent.
	parts []string
	busy  map[string]string
}

// cores is what Go adds to a benchmark's name: a number where it is run again, and that of cores.
var cores = regexp.MustCompile(`(#\d+)?(-\d+)?$`)

// read reads a file of benchmark lines.
func read(in io.Reader, name string) (*results, error) {
	r := &results{of: map[string][]map[string]float64{}, machine: map[string]string{}, busy: map[string]string{}}
	lines := benchfmt.NewReader(in, name)
	for lines.Scan() {
		switch line := lines.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, fmt.Errorf("read benchmarks: %w", line)
		case *benchfmt.Result:
			r.add(line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read benchmarks: %w", err)
	}
	if len(r.of) == 0 {
		return nil, errors.New(name + " has no benchmark")
	}
	return r, nil
}

func (r *results) add(line *benchfmt.Result) {
	figures := map[string]float64{}
	for _, v := range line.Values {
		if v.OrigUnit != "" {
			figures[v.OrigUnit] = v.OrigValue
		} else {
			figures[v.Unit] = v.Value
		}
	}
	name := cores.ReplaceAllString(string(line.Name), "")
	r.of[name] = append(r.of[name], figures)
	for _, c := range line.Config {
		r.machine[c.Key] = string(c.Value)
	}
	part := r.machine["part"]
	if part != "" && !slices.Contains(r.parts, part) {
		r.parts = append(r.parts, part)
		r.busy[part] = r.machine["busy"]
	}
}

// samples returns what a benchmark came to in each round.
func (r *results) samples(name, unit string) ([]float64, error) {
	var out []float64
	for _, figures := range r.of[name] {
		value, has := figures[unit]
		if !has {
			return nil, fmt.Errorf("%s has no %s", name, unit)
		}
		out = append(out, value)
	}
	if len(out) == 0 {
		return nil, errors.New(name + " is missing")
	}
	return out, nil
}

// outcome is what a row came to.
type outcome struct {
	// figure and peer are medians. peer is 0 where there is none.
	figure, peer float64
	// ratio is the median of the rounds' ratios; low and high are the least and the most.
	ratio, low, high float64
	hasRatio         bool
}

// outcome returns what a row came to, each round's subject beside the same round's peer.
func (r *results) outcome(w *row) (outcome, error) {
	figures, err := r.samples(w.subject, w.unit)
	if err != nil {
		return outcome{}, err
	}
	out := outcome{figure: median(figures)}
	var ratios []float64
	switch {
	case w.ratio != "":
		if ratios, err = r.samples(w.subject, w.ratio); err != nil {
			return outcome{}, err
		}
	case w.peer != "":
		peers, err := r.samples(w.peer, w.unit)
		if err != nil {
			return outcome{}, err
		}
		out.peer = median(peers)
		for i := range min(len(figures), len(peers)) {
			if peers[i] == 0 {
				return outcome{}, fmt.Errorf("%s is 0: there is no ratio to it", w.peer)
			}
			ratios = append(ratios, figures[i]/peers[i])
		}
	default:
		return out, nil
	}
	out.hasRatio, out.ratio, out.low, out.high = true, median(ratios), slices.Min(ratios), slices.Max(ratios)
	return out, nil
}

// median is the middle value, of an even number the mean of both.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// known leaves the rows of the parts that were run.
func (r *results) known(rows []row) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(w row) bool { return !slices.Contains(r.parts, w.part) })
}

// missing names what each part should have measured and has not.
func (r *results) missing(rows []row) map[string][]string {
	out := map[string][]string{}
	for i := range rows {
		if _, err := r.outcome(&rows[i]); err != nil {
			out[rows[i].part] = append(out[rows[i].part], strings.TrimSpace(err.Error()))
		}
	}
	return out
}
