package fault_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/fault"
)

func TestShown(t *testing.T) {
	require.Equal(t, "2026-13-01", fault.Shown("2026-13-01"))
	require.Equal(t, strings.Repeat("a", 80), fault.Shown(strings.Repeat("a", 80)))
	require.Equal(t, strings.Repeat("a", 80)+"…", fault.Shown(strings.Repeat("a", 81)))
	require.Equal(t, strings.Repeat("ä", 39)+"…", fault.Shown("a" + strings.Repeat("ä", 41))[1:], "no character is cut")
}
