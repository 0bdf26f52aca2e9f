package web

import (
	"fmt"
	"math"
)

// bar shows how much of a limit is used and held, in a drawing 1000 wide. It is an image: the numbers are beside it.
type bar struct {
	Used, Held, Expected int
	// Says is what it shows, in words.
	Says string
	// Level is "full" where nothing is left, "high" from 80 % on, else "low".
	Level string
}

const (
	barWidth = 1000
	// highFrom is the part of a limit from which on it is shown as nearly used up.
	highFrom = 0.8
)

func newBar(m meterView) bar {
	b := bar{Level: "low", Says: fmt.Sprintf("%s of %s used", quantity(m.Current, m.Unit), quantity(m.Most, m.Unit))}
	if m.Held > 0 {
		b.Says += fmt.Sprintf(", %s held", quantity(m.Held, m.Unit))
	}
	b.Used = part(m.Current, m.Most)
	b.Held = min(barWidth-b.Used, part(m.Held, m.Most))
	b.Expected = part(m.Expected, m.Most)
	switch filled := float64(b.Used+b.Held) / barWidth; {
	case filled >= 1:
		b.Level = "full"
	case filled >= highFrom:
		b.Level = "high"
	}
	return b
}

func part(n, of int64) int {
	if of <= 0 {
		if n > 0 {
			return barWidth
		}
		return 0
	}
	return int(math.Min(barWidth, math.Round(float64(n)/float64(of)*barWidth)))
}

// column is one value of a column chart, in a drawing whose height is 100.
type column struct {
	X, Y, Width, Height float64
	Label               string
	Value               int64
}

const (
	columnsWidth  = 1000
	columnsHeight = 100
	// columnGap is the part of a column's place that stays empty.
	columnGap = 0.2
)

// newColumns draws values side by side, the highest one as high as the drawing.
func newColumns(points []point) []column {
	highest := int64(1)
	for _, p := range points {
		highest = max(highest, p.Value)
	}
	out := make([]column, len(points))
	place := float64(columnsWidth) / float64(max(1, len(points)))
	for i, p := range points {
		height := float64(p.Value) / float64(highest) * columnsHeight
		if p.Value > 0 {
			height = max(height, 1)
		}
		out[i] = column{
			X: float64(i)*place + place*columnGap/2, Width: place * (1 - columnGap), Y: columnsHeight - height, Height: height,
			Label: p.Label, Value: p.Value,
		}
	}
	return out
}

// point is a value with what it is of.
type point struct {
	Label string
	Value int64
}
