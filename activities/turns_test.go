package activities

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever organizations do: no more places are taken than there are, one that has none gets any
// that is free, and one alone leaves most places to others.
func TestTurnsAreShared(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		places := rapid.IntRange(1, 40).Draw(t, "places")
		shared := newTurns(places)
		now := time.Unix(0, 0)
		under := map[byte]int{}
		taken := 0
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				of := rapid.ByteRange(0, 5).Draw(t, "organization")
				ok, after := shared.take(uuid.UUID{15: of}, now)
				free := places - taken
				switch {
				case free == 0 && ok:
					t.Fatalf("%d of %d places are taken, and one more", taken, places)
				case free > 0 && under[of] == 0 && !ok:
					t.Fatalf("%d places are free, and an organization with none gets none", free)
				case ok && under[of] > 0 && under[of] >= free/turnPart:
					t.Fatalf("an organization with %d places gets another one of %d", under[of], free)
				case !ok && (after < soonestTurn || after > latestTurn):
					t.Fatalf("it comes again after %s", after)
				}
				if ok {
					under[of]++
					taken++
				}
			},
			"give": func(t *rapid.T) {
				of := rapid.ByteRange(0, 5).Draw(t, "organization")
				if under[of] == 0 {
					t.Skip("none is under way")
				}
				now = now.Add(time.Duration(rapid.IntRange(0, 60_000).Draw(t, "ms")) * time.Millisecond)
				shared.give(uuid.UUID{15: of}, now, time.Duration(rapid.IntRange(0, 15_000).Draw(t, "took"))*time.Millisecond)
				under[of]--
				taken--
			},
		})
	})
}

// However many organizations hang, there is a place for the next one; what waits is spread.
func TestTurnsUnderManyTarpits(t *testing.T) {
	t.Parallel()
	shared := newTurns(64)
	now := time.Unix(0, 0)
	for range 100 {
		for of := range 16 {
			shared.take(uuid.UUID{15: byte(of + 1)}, now)
		}
	}
	require.Less(t, shared.taken, 64)
	ok, _ := shared.take(uuid.Max, now)
	require.True(t, ok)

	alone := newTurns(64)
	last := time.Duration(0)
	for range 50_000 {
		_, after := alone.take(uuid.Max, now)
		require.GreaterOrEqual(t, after, last)
		last = after
	}
	require.Equal(t, 13, alone.taken, "a quarter of what is free")
	require.Equal(t, latestTurn, last)
	for alone.taken > 0 {
		alone.give(uuid.Max, now.Add(time.Hour), 15*time.Second)
	}
	require.Empty(t, alone.of, "what is over takes no memory")
}
