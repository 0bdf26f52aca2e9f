package postgrestest_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
)

const reservations = "/api/v1/reservations"

func (r *replica) hold(key string, quantity int) (at string, answer map[string]any) {
	r.t.Helper()
	status, answer := r.call(key, http.MethodPost, reservations, `{"meter":"evaluations","quantity":`+strconv.Itoa(quantity)+`}`)
	require.Equal(r.t, http.StatusCreated, status, answer)
	return reservations + "/" + answer["id"].(string), answer
}

// used is what the database has of today's evaluations.
func (r *replica) used(key string) float64 {
	r.t.Helper()
	today := now().Format(time.DateOnly)
	status, history := r.call(key, http.MethodGet, "/api/v1/usage/history?meter=evaluations&from="+today+"&to="+today, "")
	require.Equal(r.t, http.StatusOK, status, history)
	var sum float64
	for _, point := range history["points"].([]any) {
		sum += point.(map[string]any)["value"].(float64)
	}
	return sum
}

// sameDay waits where the day is about to end: these tests are about one window.
func sameDay(t *testing.T) {
	t.Helper()
	midnight := now().Truncate(24 * time.Hour).Add(24 * time.Hour)
	if left := time.Until(midnight); left < time.Minute {
		time.Sleep(left)
	}
}

// TestReservationsAreSettledAnywhere holds at one replica and commits or releases at
// another, which begins after the first has ended.
func TestReservationsAreSettledAnywhere(t *testing.T) {
	sameDay(t)
	database := pgtest.NewDatabase(t)
	first, second := newReplica(t, database), newReplica(t, database)
	admin := first.adminKey()
	_, free := first.tenant(admin, "Free & Sons", "free")
	less, held := first.hold(free, 300)
	more, _ := first.hold(free, 200)
	all, _ := first.hold(free, 100)
	none, _ := first.hold(free, 400)
	require.InDelta(t, 300, held["held"], 0)
	require.InDelta(t, 700, held["remaining"], 0)
	status, answer := second.call(free, http.MethodPost, reservations, `{"meter":"evaluations","quantity":1}`)
	require.Equal(t, http.StatusPaymentRequired, status, answer)
	require.InDelta(t, 1000, answer["held"], 0)
	require.Equal(t, "plan_limit_exceeded", answer["error"])

	status, answer = second.call(free, http.MethodPost, less+"/commit", `{"quantity":250}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.InDelta(t, 250, answer["committed"], 0)
	first.stop()
	third := newReplica(t, database)
	status, answer = third.call(free, http.MethodGet, less, "")
	require.Equal(t, http.StatusOK, status)
	want := map[string]any{}
	for name, value := range held {
		want[name] = value
	}
	want["state"], want["committed"] = "committed", 250.0
	require.Empty(t, cmp.Diff(want, answer))
	for range 2 {
		status, answer = third.call(free, http.MethodPost, more+"/commit", `{"quantity":250}`)
		require.Equal(t, http.StatusOK, status, answer)
	}
	status, answer = third.call(free, http.MethodPost, more+"/commit", `{"quantity":249}`)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "reservation_ended", answer["error"])
	status, answer = second.call(free, http.MethodPost, all+"/commit", `{"quantity":101}`)
	require.Equal(t, http.StatusPaymentRequired, status, answer)
	require.InDelta(t, 500, answer["current"], 0)
	require.InDelta(t, 500, answer["held"], 0)
	status, answer = second.call(free, http.MethodPost, all+"/commit", "")
	require.Equal(t, http.StatusOK, status, answer)
	for range 2 {
		status, answer = third.call(free, http.MethodDelete, none, "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "released", answer["state"])
	}
	require.InDelta(t, 600, third.used(free), 0)
	_, answer = third.hold(free, 400)
	require.InDelta(t, 0, answer["remaining"], 0)
}

// TestARefusedCommitNamesThePlanInForce commits more than is held after a change: the refusal
// bears the plan whose limit it is, not the one of the reservation.
func TestARefusedCommitNamesThePlanInForce(t *testing.T) {
	f := newFleet(t, "pro")
	at, _ := f.replicas[0].hold(f.key, 900)
	f.change("free")
	f.settle("free")
	for _, r := range f.replicas {
		status, answer := r.call(f.key, http.MethodPost, at+"/commit", `{"quantity":1001}`)
		require.Equal(t, http.StatusPaymentRequired, status, answer)
		require.Equal(t, "free", answer["plan"])
		require.InDelta(t, 1000, answer["max"], 0)
		require.InDelta(t, 900, answer["held"], 0)
	}
}

func TestReservationsExpire(t *testing.T) {
	sameDay(t)
	r := newReplica(t, pgtest.NewDatabase(t))
	_, free := r.tenant(r.adminKey(), "Free & Sons", "free")
	status, answer := r.call(free, http.MethodPost, reservations, `{"meter":"evaluations","quantity":1000,"ttl_seconds":1}`)
	require.Equal(t, http.StatusCreated, status, answer)
	at := reservations + "/" + answer["id"].(string)
	require.Eventually(t, func() bool {
		ended, err := r.store.ExpireReservations(t.Context())
		return err == nil && ended == 1
	}, 30*time.Second, 20*time.Millisecond)
	_, answer = r.call(free, http.MethodGet, at, "")
	require.Equal(t, "expired", answer["state"])
	status, answer = r.call(free, http.MethodPost, at+"/commit", "")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "reservation_ended", answer["error"])
	r.hold(free, 1000)
}

// TestReservationsGetWhatInstancesHold takes quota that another replica has leased and
// doesn't use.
func TestReservationsGetWhatInstancesHold(t *testing.T) {
	sameDay(t)
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	_, free := here.tenant(here.adminKey(), "Free & Sons", "free")
	status, answer := there.use(free, "evaluations", "10")
	require.Equal(t, http.StatusOK, status, answer)
	at, answer := here.hold(free, 990)
	require.InDelta(t, 0, answer["remaining"], 0)
	status, answer = there.use(free, "evaluations", "1")
	require.Equal(t, http.StatusPaymentRequired, status, answer)
	status, answer = here.call(free, http.MethodPost, at+"/commit", `{"quantity":0}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.Eventually(t, func() bool {
		status, _ := there.use(free, "evaluations", "990")
		return status == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond)
}

func TestReservationsUnderSoftAndNoLimits(t *testing.T) {
	sameDay(t)
	r := newReplica(t, pgtest.NewDatabase(t))
	admin := r.adminKey()
	_, pro := r.tenant(admin, "Pro", "pro")
	_, enterprise := r.tenant(admin, "Enterprise", "enterprise")
	at, answer := r.hold(pro, 100001)
	require.Equal(t, true, answer["over_limit"])
	status, answer := r.call(pro, http.MethodPost, at+"/commit", `{"quantity":200000}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.InDelta(t, 200000, r.used(pro), 0)
	at, answer = r.hold(enterprise, 5)
	require.Nil(t, answer["max"])
	status, answer = r.call(enterprise, http.MethodPost, at+"/commit", "")
	require.Equal(t, http.StatusOK, status, answer)
	require.InDelta(t, 5, r.used(enterprise), 0)
}

// TestAReservationOfATenantIsNobodyElses holds that the other tenant finds nothing.
func TestAReservationOfATenantIsNobodyElses(t *testing.T) {
	r := newReplica(t, pgtest.NewDatabase(t))
	admin := r.adminKey()
	_, one := r.tenant(admin, "One", "free")
	_, other := r.tenant(admin, "Other", "free")
	at, _ := r.hold(one, 1)
	for _, request := range []string{"GET " + at, "DELETE " + at, "POST " + at + "/commit"} {
		method, path, _ := strings.Cut(request, " ")
		status, answer := r.call(other, method, path, "")
		require.Equal(t, http.StatusNotFound, status, "%s: %v", request, answer)
	}
}
