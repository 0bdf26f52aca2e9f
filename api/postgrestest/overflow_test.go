package postgrestest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// TestOneRequestNeverStopsOthers sends a batch of 9,400 items of 10^15 each with
// yesterday's timestamp to two replicas: what a day can't hold is refused, or set aside where
// only the flush finds it, and another tenant's usage is written at every flush.
func TestOneRequestNeverStopsOthers(t *testing.T) {
	database := pgtest.NewDatabase(t)
	one, two := newReplica(t, database), newReplica(t, database)
	admin := one.adminKey()
	greedyID, greedyKey := one.tenant(admin, "Greedy", "enterprise")
	otherID, otherKey := one.tenant(admin, "Other", "pro")
	greedy, other := uuid.MustParse(greedyID), uuid.MustParse(otherID)
	yesterday := now().Add(-24 * time.Hour)
	item := fmt.Sprintf(`{"meter":"evaluations","quantity":%d,"timestamp":%q}`, int64(plans.MaxQuantity), yesterday.Format(time.RFC3339))
	body := "[" + strings.Repeat(item+",", 9399) + item + "]"

	for n, r := range []*replica{one, two} {
		status, answer := r.call(greedyKey, http.MethodPost, "/api/v1/usage/batch", body)
		require.Equal(t, http.StatusOK, status)
		require.EqualValues(t, 100, answer["accepted"])
		require.EqualValues(t, 9300, answer["invalid"])
		last := answer["receipts"].([]any)[9399].(map[string]any)
		require.Equal(t, "quantity", last["field"])
		require.Equal(t, "quantity must not take the sum of its day beyond 100000000000000000", last["message"])
		status, _ = r.use(otherKey, "evaluations", "5")
		require.Equal(t, http.StatusOK, status)
		_, err := r.flusher.Flush(t.Context())
		require.NoError(t, err)
		record, err := r.store.CurrentUsage(t.Context(), other, "evaluations", calendar.DayOf(now()))
		require.NoError(t, err)
		require.EqualValues(t, 5*(n+1), record.Value)
	}
	record, err := one.store.CurrentUsage(t.Context(), greedy, "evaluations", calendar.DayOf(yesterday))
	require.NoError(t, err)
	require.EqualValues(t, plans.MaxDaySum, record.Value)

	// What the second replica admitted is there, beside the records, and nothing differs.
	waiting, err := one.store.Quarantine(t.Context(), meter.QuarantineWaiting, greedy, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, waiting, 1)
	require.EqualValues(t, plans.MaxDaySum, waiting[0].Value)
	found, err := one.store.Reconcile(t.Context(), calendar.DayOf(yesterday), calendar.DayOf(now()))
	require.NoError(t, err)
	require.Empty(t, found.Differences)
	require.EqualValues(t, 1, found.Quarantined)

	// From then on both refuse at once.
	for _, r := range []*replica{one, two} {
		status, answer := r.call(greedyKey, http.MethodPost, "/api/v1/usage", item)
		require.Equal(t, http.StatusUnprocessableEntity, status, answer)
		require.Equal(t, "quantity_overflow", answer["error"])
	}

	at := "/api/v1/quarantine/" + waiting[0].ID.String()
	status, answer := one.call(admin, http.MethodGet, "/api/v1/quarantine?state=quarantined", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer["quarantined"], 1)
	status, answer = one.call(admin, http.MethodPost, at+"/apply", `{"note":"try"}`)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "quarantine_refused", answer["error"])
	status, answer = one.call(admin, http.MethodPost, at+"/drop", `{"note":"absurd"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "dropped", answer["state"])
	_, err = two.flusher.Flush(t.Context())
	require.NoError(t, err)
}
