// Package benchline writes what was measured in the [format of Go's benchmarks], for tests and
// programs that measure otherwise than by testing.B. bench/ reads it, and so does benchstat.
//
// [format of Go's benchmarks]: https://go.dev/design/14313-benchmark-format
package benchline

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Figures are what was measured, by unit: "ns/op", "rows/s".
type Figures map[string]float64

// Write writes one line: name, such as "Asks/others=5/rate=0.1", n, the operations that were measured
// together, and the figures in the order of their units. Spaces in a name become hyphens.
func Write(out io.Writer, name string, n int, figures Figures) error {
	var line strings.Builder
	line.WriteString("Benchmark" + strings.Join(strings.Fields(name), "-") + " " + strconv.Itoa(n))
	for _, unit := range slices.Sorted(maps.Keys(figures)) {
		line.WriteString(" " + strconv.FormatFloat(figures[unit], 'f', -1, 64) + " " + unit)
	}
	if _, err := fmt.Fprintln(out, line.String()); err != nil {
		return fmt.Errorf("write a benchmark's line: %w", err)
	}
	return nil
}
