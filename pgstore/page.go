package pgstore

import (
	"bytes"
	"slices"

	"github.com/google/uuid"
)

// maxPage bounds what one call returns.
const maxPage = 10_000

// pageSize brings a limit into 1 to [maxPage].
func pageSize(limit int) int32 { return int32(min(max(limit, 1), maxPage)) }

// ends returns the first and the last of some IDs, in whatever order they are; of none, that of nobody.
func ends(ids []uuid.UUID) (first, last uuid.UUID) {
	if len(ids) == 0 {
		return uuid.Nil, uuid.Nil
	}
	compare := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	return slices.MinFunc(ids, compare), slices.MaxFunc(ids, compare)
}
