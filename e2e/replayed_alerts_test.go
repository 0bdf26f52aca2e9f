package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// TestWhatAKilledAPIHasCrossedIsToldOf kills an API with usage in its journal that has crossed thresholds, and
// which nobody sees again: the next one on the folder tells of it, by the time it stops.
func TestWhatAKilledAPIHasCrossedIsToldOf(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	api := s.startAPI("TOLLGATE_FLUSH_INTERVAL=5m")
	acme := s.newTenant("Acme", "free")
	status, answer := api.call(http.MethodPost, "/api/v1/usage", acme.key, map[string]any{"meter": "evaluations", "quantity": 1000})
	require.Equal(t, http.StatusOK, status, answer)
	told := func() (n int) {
		require.NoError(t, s.owner().QueryRow(t.Context(), `SELECT count(*) FROM events WHERE kind = 'usage.threshold_reached'`).Scan(&n))
		return n
	}
	api.kill()
	require.Zero(t, told())
	next := s.startAPI("TOLLGATE_FLUSH_INTERVAL=5m", "TOLLGATE_JOURNAL_DIR="+api.journal)
	require.Eventually(t, func() bool { return strings.Contains(next.log.tail(60), "Looked at whose usage was replayed") }, patience, 50*time.Millisecond)
	next.stop()
	require.Equal(t, 2, told(), "80 and 100 percent")
}
