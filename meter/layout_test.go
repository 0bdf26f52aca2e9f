package meter

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestSlotIsTwoCacheLines(t *testing.T) {
	require.Equal(t, uintptr(128), unsafe.Sizeof(slot{}))
	require.Equal(t, uintptr(64), unsafe.Offsetof(slot{}.windowStart))
}

func TestADecisionTouchesOneCacheLineOfAQuota(t *testing.T) {
	require.Equal(t, uintptr(64), unsafe.Offsetof(quota{}.key))
	require.LessOrEqual(t, unsafe.Sizeof(quota{}), uintptr(384), "beyond it, an allocation isn't aligned to cache lines")
}

func TestOrganizationIsTwoCacheLines(t *testing.T) {
	require.Equal(t, uintptr(128), unsafe.Sizeof(Organization{}))
	require.Equal(t, uintptr(64), unsafe.Offsetof(Organization{}.added))
}
