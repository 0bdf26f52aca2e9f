package pgstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/riverline/tollgate/meter"
)

// parseSeen reads a pg_snapshot: xmin:xmax:xip,…
func parseSeen(text string) (meter.Seen, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return meter.Seen{}, fmt.Errorf("the snapshot %q is not of the form xmin:xmax:xip", text)
	}
	var seen meter.Seen
	var err, other error
	seen.Before, err = strconv.ParseUint(parts[0], 10, 64)
	seen.From, other = strconv.ParseUint(parts[1], 10, 64)
	err = errors.Join(err, other)
	for open := range strings.SplitSeq(parts[2], ",") {
		if open == "" {
			continue
		}
		number, other := strconv.ParseUint(open, 10, 64)
		err = errors.Join(err, other)
		seen.Open = append(seen.Open, number)
	}
	if err != nil {
		return meter.Seen{}, fmt.Errorf("the snapshot %q is not of the form xmin:xmax:xip: %w", text, err)
	}
	return seen, nil
}
