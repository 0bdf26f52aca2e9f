package postgrestest_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// countedReads counts how often an instance reads organizations and the catalog.
type countedReads struct {
	*pgstore.Store
	organizations, catalogs atomic.Int64
}

func (c *countedReads) LoadOrganization(ctx context.Context, id uuid.UUID, day calendar.Day) (meter.Snapshot, error) {
	c.organizations.Add(1)
	return c.Store.LoadOrganization(ctx, id, day)
}

func (c *countedReads) CatalogSeen(ctx context.Context) (*plans.Catalog, meter.Seen, error) {
	c.catalogs.Add(1)
	return c.Store.CatalogSeen(ctx)
}

// TestAChangeIsReadOnce holds that each instance reads a change once, whoever tells it first:
// the request that made the change, the notification, or the takeover. It is in force before
// the request is answered.
func TestAChangeIsReadOnce(t *testing.T) {
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	replicas := []*replica{here, there}
	admin := here.adminKey()
	id, key := here.tenant(admin, "x", "free")
	for _, r := range replicas {
		status, _ := r.use(key, "evaluations", "1")
		require.Equal(t, http.StatusOK, status)
	}
	// settled waits until all replicas have heard of all changes, and taken them over.
	heard := int64(0)
	settled := func() {
		t.Helper()
		for _, r := range replicas {
			require.Eventually(t, func() bool {
				changes, err := r.store.PlanChanges(t.Context(), r.id)
				return err == nil && len(changes) == 0 && r.heard.Load() == heard
			}, 30*time.Second, 5*time.Millisecond)
		}
	}
	settled()
	for _, r := range replicas {
		r.reads.organizations.Store(0)
		r.reads.catalogs.Store(0)
	}

	const changes = 20
	for n := range changes {
		plan, allowed := "pro", http.StatusOK
		if n%2 == 1 {
			plan, allowed = "free", http.StatusPaymentRequired
		}
		status, answer := here.call(admin, http.MethodPatch, "/api/v1/organizations/"+id, `{"plan":"`+plan+`"}`)
		require.Equal(t, http.StatusOK, status, answer)
		heard++
		status, _ = here.use(key, "evaluations", "1001")
		require.Equal(t, allowed, status, "in force where it was made")
	}
	settled()
	require.EqualValues(t, changes, here.reads.organizations.Load())
	require.LessOrEqual(t, there.reads.organizations.Load(), int64(changes), "one reading may see several changes")
	for _, r := range replicas {
		require.Zero(t, r.reads.catalogs.Load())
		r.reads.organizations.Store(0)
	}

	plan := `{"key":"pro","name":"Pro","entitlements":[{"meter":"evaluations","mode":"soft","window":"day","max":10}]}`
	status, answer := here.call(admin, http.MethodPut, "/api/v1/plans", plan)
	require.Equal(t, http.StatusOK, status, answer)
	heard++
	settled()
	for _, r := range replicas {
		require.Zero(t, r.reads.organizations.Load())
		require.EqualValues(t, 1, r.reads.catalogs.Load())
	}
}
