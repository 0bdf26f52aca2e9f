package meter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
)

func TestSeen(t *testing.T) {
	seen := meter.Seen{Before: 10, From: 20, Open: []uint64{10, 15}}
	for transaction, has := range map[uint64]bool{0: false, 1: true, 9: true, 10: false, 11: true, 15: false, 19: true, 20: false, 21: false} {
		require.Equal(t, has, seen.Has(transaction), transaction)
	}
	require.False(t, meter.Seen{}.Has(1), "what isn't known was not seen for sure")
}
