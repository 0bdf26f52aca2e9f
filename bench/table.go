package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// table writes what a run came to as Markdown: the machine, then a row for each comparison.
func (r *results) table(rows []row) string {
	var out strings.Builder
	out.WriteString("| run | |\n|---|---|\n")
	for _, fact := range machineFacts {
		if value := r.machine[fact.key]; value != "" {
			fmt.Fprintf(&out, "| %s | %s |\n", fact.name, value)
		}
	}
	if busy := r.notIdle(); busy != "" {
		fmt.Fprintf(&out, "| **not idle** | others used the machine before: %s |\n", busy)
	}
	out.WriteString("\n| part | measured | beside | ratio | figures | goal | |\n|---|---|---|--:|---|---|---|\n")
	for i := range rows {
		w := &rows[i]
		o, err := r.outcome(w)
		if err != nil {
			fmt.Fprintf(&out, "| %s | %s | %s | | **failed** | | |\n", w.part, w.what, w.beside)
			continue
		}
		ratio, bound, verdict := "", "", ""
		if o.hasRatio {
			ratio = spread(o)
		}
		if g := goalNamed(w.goal); g != nil {
			judged := o.figure
			if g.unit == "ratio" {
				judged = o.ratio
			}
			bound, verdict = g.bound(), g.verdict(judged)
		}
		figures := quantity(o.figure, w.unit)
		if o.peer != 0 {
			figures += "; " + quantity(o.peer, w.unit)
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s | %s |\n", w.part, w.what, w.beside, ratio, figures, bound, verdict)
	}
	return out.String()
}

// spread is a ratio, with the least and the most of the rounds where they differ.
func spread(o outcome) string {
	middle, low, high := short(o.ratio), short(o.low), short(o.high)
	if low == high {
		return middle
	}
	return middle + " (" + low + "–" + high + ")"
}

// notIdle names the parts that were begun while others used more of the machine than idleEnough.
func (r *results) notIdle() string {
	var out []string
	for _, part := range r.parts {
		if percent, err := strconv.ParseFloat(r.busy[part], 64); err == nil && percent > idleEnough {
			out = append(out, fmt.Sprintf("%s %.0f %%", part, percent))
		}
	}
	return strings.Join(out, ", ")
}

// quantity is a value with its unit, as people read it: times in the unit that fits, others with
// three digits that count.
func quantity(value float64, unit string) string {
	switch {
	case unit == "":
		return short(value)
	case strings.HasSuffix(unit, "ns/op"), strings.HasSuffix(unit, "-ns"):
		return elapsed(value)
	}
	name, more, has := strings.Cut(unit, "-")
	if has {
		name += " " + more
	}
	return short(value) + " " + name
}

func elapsed(nanoseconds float64) string {
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"s", time.Second}, {"ms", time.Millisecond}, {"µs", time.Microsecond}} {
		if nanoseconds >= float64(unit.of) {
			return short(nanoseconds/float64(unit.of)) + " " + unit.name
		}
	}
	return short(nanoseconds) + " ns"
}

// short is a number with three digits that count, and commas from a thousand on.
func short(value float64) string {
	if value == 0 || math.IsInf(value, 0) || math.IsNaN(value) {
		return strconv.FormatFloat(value, 'f', -1, 64)
	}
	digits := wholeDigits(value)
	unit := math.Pow(10, float64(digits-3))
	value = math.Round(value/unit) * unit
	digits = wholeDigits(value) // 999.9 has become 1000.
	if digits <= 3 {
		return strconv.FormatFloat(value, 'f', max(0, min(4, 3-digits)), 64)
	}
	text := strconv.FormatFloat(value, 'f', 0, 64)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// wholeDigits are the digits before the point; of less than 0.1 they are negative.
func wholeDigits(value float64) int { return int(math.Floor(math.Log10(math.Abs(value)))) + 1 }

// The table of a document is between these.
const (
	tableBegins = "<!-- bench: written by make bench BENCH_WRITE=1 -->\n"
	tableEnds   = "<!-- /bench -->\n"
)

// write puts a table into a document, in place of the one that is there.
func write(document, table string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	before, rest, begun := strings.Cut(string(text), tableBegins)
	_, after, ended := strings.Cut(rest, tableEnds)
	if !begun || !ended {
		return fmt.Errorf("write the table: %s lacks a line %q and, after it, %q", document, strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds))
	}
	if err := os.WriteFile(document, []byte(before+tableBegins+"\n"+table+"\n"+tableEnds+after), 0o600); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
