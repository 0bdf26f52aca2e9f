package postgrestest_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
)

// race sends one request under one key from both replicas at once, each sender until it
// isn't told that the request is under way, and returns the IDs that were answered and
// how many answers had one of the given status without having been given before.
func race(t *testing.T, replicas []*replica, key, path, body string) (ids map[string]int, firsts int) {
	t.Helper()
	ids = map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 12 {
		r := replicas[i%len(replicas)]
		wg.Go(func() {
			for range 500 {
				status, header, answer, err := r.send(key, http.MethodPost, path, body, "the-key")
				if err == nil && status == http.StatusConflict && answer["error"] == "request_under_way" && header.Get("Retry-After") == "1" {
					time.Sleep(20 * time.Millisecond)
					continue
				}
				replayed := header.Get("Idempotency-Replayed") == "true"
				id, ok := answer["id"].(string)
				if err != nil || !ok || status != http.StatusCreated && (status != http.StatusOK || !replayed) {
					t.Errorf("status %d: %v %v", status, answer, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[id]++
				if !replayed {
					firsts++
				}
				return
			}
			t.Error("the request is under way for ever")
		})
	}
	wg.Wait()
	return ids, firsts
}

// TestOneKeyMakesOneOrganization races one write from two replicas.
func TestOneKeyMakesOneOrganization(t *testing.T) {
	database := pgtest.NewDatabase(t)
	replicas := []*replica{newReplica(t, database), newReplica(t, database)}
	admin := replicas[0].adminKey()
	ids, firsts := race(t, replicas, admin, "/api/v1/organizations", `{"name":"Once","plan":"free"}`)
	require.Len(t, ids, 1)
	require.Equal(t, 1, firsts)
	status, list := replicas[0].call(admin, http.MethodGet, "/api/v1/organizations", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, list["organizations"], 1)

	status, _, answer, err := replicas[1].send(admin, http.MethodPost, "/api/v1/organizations", `{"name":"Twice","plan":"free"}`, "the-key")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "idempotency_key_reused", answer["error"])
}

// TestOneKeyHoldsOneReservation does so with a reservation.
func TestOneKeyHoldsOneReservation(t *testing.T) {
	sameDay(t)
	database := pgtest.NewDatabase(t)
	replicas := []*replica{newReplica(t, database), newReplica(t, database)}
	_, free := replicas[0].tenant(replicas[0].adminKey(), "Free & Sons", "free")
	ids, firsts := race(t, replicas, free, reservations, `{"meter":"evaluations","quantity":600}`)
	require.Len(t, ids, 1)
	require.Equal(t, 1, firsts)
	replicas[1].hold(free, 400)

	status, _, answer, err := replicas[1].send(free, http.MethodPost, reservations, `{"meter":"evaluations","quantity":601}`, "the-key")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "idempotency_key_reused", answer["error"])
}

// TestTheSecretOfAKeyIsNotKept holds that a repeated request makes no second key, shows no
// secret, and finds none in the database.
func TestTheSecretOfAKeyIsNotKept(t *testing.T) {
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	admin := here.adminKey()
	const body = `{"name":"month-end","owner":"ada","role":"finance"}`
	status, header, made, err := here.send(admin, http.MethodPost, "/api/v1/keys", body, "the-key")
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	require.Empty(t, header.Get("Idempotency-Replayed"))
	secret := made["secret"].(string)

	status, header, again, err := there.send(admin, http.MethodPost, "/api/v1/keys", body, "the-key")
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, "true", header.Get("Idempotency-Replayed"))
	delete(made, "secret")
	require.Equal(t, made, again)
	status, _ = there.call(secret, http.MethodGet, "/api/v1/plans", "")
	require.Equal(t, http.StatusOK, status, "the key works")
	require.NotContains(t, keptAnswers(t, database), secret)

	path := "/api/v1/keys/" + made["id"].(string)
	for range 2 {
		status, _, _, err = here.send(admin, http.MethodDelete, path, "", "revoke")
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, status)
	}
}

// keptAnswers returns all that is kept of answers, as text.
func keptAnswers(t *testing.T, database *pgtest.Database) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database.URL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	var kept string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT string_agg(convert_from(body, 'UTF8'), ' ') FROM idempotent_writes`).Scan(&kept))
	require.Contains(t, kept, "month-end")
	return kept
}
