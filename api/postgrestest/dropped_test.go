package postgrestest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
)

// TestDroppedQuotaIsFound fills today's window and yesterday's with usage of which a part is set
// aside, and drops that: what it gives back is found at every replica, each of which has said
// that nothing is left.
func TestDroppedQuotaIsFound(t *testing.T) {
	sameDay(t)
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	admin := here.adminKey()
	owner, key := here.tenant(admin, "Acme", "free")
	conn, err := pgx.Connect(t.Context(), database.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), `ALTER TABLE usage_daily ADD CONSTRAINT not_700 CHECK (value <> 700)`)
	require.NoError(t, err)
	for _, timestamp := range []string{"", `,"timestamp":"` + now().Add(-24*time.Hour).Format(time.RFC3339) + `"`} {
		use := func(r *replica, quantity string) int {
			status, _ := r.call(key, http.MethodPost, "/api/v1/usage", `{"meter":"evaluations","quantity":`+quantity+timestamp+`}`)
			return status
		}
		require.Equal(t, http.StatusOK, use(here, "700"))
		_, err := here.flusher.Flush(t.Context())
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, use(there, "300"))
		_, err = there.flusher.Flush(t.Context())
		require.NoError(t, err)
		for _, r := range []*replica{here, there} {
			require.Equal(t, http.StatusPaymentRequired, use(r, "1"))
		}
		waiting, err := here.store.Quarantine(t.Context(), meter.QuarantineWaiting, uuid.MustParse(owner), uuid.Nil, 10)
		require.NoError(t, err)
		require.Len(t, waiting, 1)
		status, answer := here.call(admin, http.MethodPost, "/api/v1/quarantine/"+waiting[0].ID.String()+"/drop", `{"note":"not theirs"}`)
		require.Equal(t, http.StatusOK, status, answer)
		for _, r := range []*replica{here, there} {
			require.Eventually(t, func() bool { return use(r, "350") == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
		}
		require.Equal(t, http.StatusPaymentRequired, use(here, "1"))
	}
}
