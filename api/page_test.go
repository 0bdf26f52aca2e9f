package api

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func numbered(n int) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// Pages that follow each other have each item once, whatever their size; only a page that
// another follows has a cursor.
func TestPagesHaveEachItemOnce(t *testing.T) {
	t.Parallel()
	for _, items := range []int{0, 1, 4, 5, 6, 12} {
		for _, limit := range []int{1, 2, 3, 6, 12, 13} {
			read := func(from uuid.UUID, limit int) (found []uuid.UUID, err error) {
				for n := 1; n <= items && len(found) < limit; n++ {
					if id := numbered(n); id.String() > from.String() {
						found = append(found, id)
					}
				}
				return found, nil
			}
			var all []uuid.UUID
			pages := 0
			var cursor *uuid.UUID
			for {
				one, err := readPage(cursor, limit, read, func(id uuid.UUID) uuid.UUID { return id })
				require.NoError(t, err)
				require.LessOrEqual(t, len(one.items), limit)
				all, pages, cursor = append(all, one.items...), pages+1, one.next
				if cursor == nil {
					break
				}
			}
			require.Len(t, all, items)
			for i, id := range all {
				require.Equal(t, numbered(i+1), id)
			}
			require.Equal(t, max(1, (items+limit-1)/limit), pages, "%d items, %d a page", items, limit)
		}
	}
	away := errors.New("away")
	_, err := readPage(nil, 1, func(uuid.UUID, int) ([]int, error) { return nil, away }, nil)
	require.ErrorIs(t, err, away)
}
