package postgrestest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
)

// figures are where a window stands, as an answer says.
type figures struct{ current, held, remaining float64 }

func figuresOf(answer map[string]any) figures {
	f := figures{current: answer["current"].(float64), held: answer["held"].(float64)}
	if remaining, ok := answer["remaining"].(float64); ok {
		f.remaining = remaining
	}
	return f
}

// standing is what GET /usage says of evaluations.
func (r *replica) standing(key string) figures {
	r.t.Helper()
	status, usage := r.call(key, http.MethodGet, "/api/v1/usage", "")
	require.Equal(r.t, http.StatusOK, status)
	for _, m := range usage["meters"].([]any) {
		if one := m.(map[string]any); one["meter"] == "evaluations" {
			return figuresOf(one)
		}
	}
	r.t.Fatal("evaluations are not among the meters")
	return figures{}
}

// shows holds that GET /usage says where the window stands. A look gives the other replicas 20 ms to say what
// they have used, which may be too little for a busy machine: then the next one says it.
func (r *replica) shows(key string, want figures) {
	r.t.Helper()
	var got figures
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got = r.standing(key); got == want {
			return
		}
	}
	require.Equal(r.t, want, got)
}

func (r *replica) tryHold(key, quantity string) (int, map[string]any) {
	r.t.Helper()
	return r.call(key, http.MethodPost, "/api/v1/reservations", `{"meter":"evaluations","quantity":`+quantity+`}`)
}

// TestShownIsEnforced holds that every answer of every replica has the figures that the next
// request finds, nothing flushed.
func TestShownIsEnforced(t *testing.T) {
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	_, key := here.tenant(here.adminKey(), "Acme", "free")
	both := func(want figures) {
		t.Helper()
		here.shows(key, want)
		there.shows(key, want)
	}
	refused := func(want figures, status int, answer map[string]any) {
		t.Helper()
		require.Equal(t, http.StatusPaymentRequired, status, answer)
		require.InDelta(t, want.current, answer["current"], 0, answer)
		require.InDelta(t, want.held, answer["held"], 0, answer)
		require.InDelta(t, 1000, answer["max"], 0)
		require.InDelta(t, want.remaining, answer["remaining"], 0)
	}

	for range 20 {
		status, answer := here.use(key, "evaluations", "1")
		require.Equal(t, http.StatusOK, status, answer)
	}
	both(figures{20, 0, 980})
	status, first := there.tryHold(key, "30")
	require.Equal(t, http.StatusCreated, status, first)
	require.Equal(t, figures{20, 30, 950}, figuresOf(first))
	both(figures{20, 30, 950})
	status, second := here.tryHold(key, "950")
	require.Equal(t, http.StatusCreated, status, second)
	require.Equal(t, figures{20, 980, 0}, figuresOf(second))
	full := figures{20, 980, 0}
	both(full)
	for _, r := range []*replica{here, there} {
		status, answer := r.use(key, "evaluations", "1")
		refused(full, status, answer)
		status, answer = r.use(key, "evaluations", "2000")
		refused(full, status, answer)
		status, answer = r.tryHold(key, "1")
		refused(full, status, answer)
		status, answer = r.tryHold(key, "5000")
		refused(full, status, answer)
		status, answer = r.call(key, http.MethodPost, "/api/v1/reservations/"+first["id"].(string)+"/commit", `{"quantity":31}`)
		refused(full, status, answer)
	}
	both(full)

	status, answer := there.call(key, http.MethodDelete, "/api/v1/reservations/"+second["id"].(string), "")
	require.Equal(t, http.StatusOK, status, answer)
	both(figures{20, 30, 950})
	status, answer = there.use(key, "evaluations", "1")
	require.Equal(t, http.StatusOK, status, "what was given back is found at once")
	require.Equal(t, figures{21, 30, 949}, figuresOf(answer))
	status, answer = here.use(key, "evaluations", "1")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, figures{22, 30, 948}, figuresOf(answer))
	both(figures{22, 30, 948})

	status, answer = here.call(key, http.MethodPost, "/api/v1/reservations/"+first["id"].(string)+"/commit", `{"quantity":18}`)
	require.Equal(t, http.StatusOK, status, answer)
	both(figures{40, 0, 960})
	status, answer = here.use(key, "evaluations", "960")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, figures{1000, 0, 0}, figuresOf(answer))
	both(figures{1000, 0, 0})
}

// TestHeldUnderASoftLimit holds that what is held counts towards a soft limit, at the replica
// that held it and, once it has looked, at any other.
func TestHeldUnderASoftLimit(t *testing.T) {
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	_, key := here.tenant(here.adminKey(), "Acme", "pro")
	status, answer := here.use(key, "evaluations", "20")
	require.Equal(t, http.StatusOK, status, answer)
	status, answer = here.tryHold(key, "99980")
	require.Equal(t, http.StatusCreated, status, answer)
	require.Equal(t, false, answer["over_limit"], "all of it is held, and no more")
	require.Equal(t, figures{20, 99_980, 0}, figuresOf(answer))
	require.Equal(t, figures{20, 99_980, 0}, here.standing(key))
	require.Equal(t, figures{0, 99_980, 20}, there.standing(key), "what the other has not flushed isn't known under a soft limit")
	status, answer = here.use(key, "evaluations", "1")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, true, answer["over_limit"])
	require.Equal(t, figures{21, 99_980, 0}, figuresOf(answer))
	_, err := here.flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Equal(t, figures{21, 99_980, 0}, there.standing(key))
	status, answer = there.use(key, "evaluations", "1")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, true, answer["over_limit"])
	require.Equal(t, figures{22, 99_980, 0}, figuresOf(answer))
}
