package meter

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestSlotIsThreeCacheLines(t *testing.T) {
	require.Equal(t, uintptr(192), unsafe.Sizeof(slot{}))
	require.Equal(t, uintptr(64), unsafe.Offsetof(slot{}.used))
}

func TestADecisionTouchesOneCacheLineOfAQuota(t *testing.T) {
	require.Equal(t, uintptr(64), unsafe.Offsetof(quota{}.key))
	require.LessOrEqual(t, unsafe.Sizeof(quota{}), uintptr(384), "beyond it, an allocation isn't aligned to cache lines")
}

func TestOrganizationIsFiveCacheLines(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Organization{}), uintptr(320))
	require.Equal(t, uintptr(64), unsafe.Offsetof(Organization{}.first))
}
