package benchline_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/benchline"
)

func TestALineIsThatOfABenchmark(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, benchline.Write(&out, "Asks/others=5/subject=a b", 950, benchline.Figures{"waits/event": 0, "asks/event": 0.041, "ns/op": 1e9}))
	require.Equal(t, "BenchmarkAsks/others=5/subject=a-b 950 0.041 asks/event 1000000000 ns/op 0 waits/event\n", out.String())
}
