package meter

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/benchline"
	"github.com/riverline/tollgate/plans"
)

func TestSlotIsThreeCacheLines(t *testing.T) {
	require.Equal(t, uintptr(192), unsafe.Sizeof(slotApart{}))
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

// TestIdleOrganizationsAreSmall holds what an organization takes in memory that has used one meter and has no
// lease: with its share of a table that is as full as with a million.
func TestIdleOrganizationsAreSmall(t *testing.T) {
	const organizations = 1_000_000 / 64
	m := New(Config{Catalog: plans.Default(), Store: everyone{}})
	before := heap()
	for range organizations {
		o, err := m.Organization(t.Context(), uuid.New(), time.Now())
		require.NoError(t, err)
		out, err := o.Use(t.Context(), 0, 1, time.Now(), nil)
		require.NoError(t, err)
		require.True(t, out.Decision.Allowed)
	}
	m.drain(time.Now())
	m.dirty, m.spare = nil, nil
	bytes := (heap() - before) / organizations
	require.NoError(t, benchline.Write(os.Stdout, "IdleOrganization", organizations, benchline.Figures{"B/organization": float64(bytes)}))
	require.Less(t, bytes, uint64(400))
	runtime.KeepAlive(m)
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// everyone has a plan without limits.
type everyone struct{ Store }

func (everyone) LoadOrganization(context.Context, uuid.UUID, calendar.Day) (Snapshot, error) {
	return Snapshot{
		Plan: "enterprise", Terms: []Term{{Plan: "enterprise", Version: 1, From: time.Unix(1, 0)}},
		Seen: Seen{Before: 1, From: 2}, ReadAt: time.Now(),
	}, nil
}
