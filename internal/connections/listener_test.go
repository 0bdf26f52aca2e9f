package connections_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/connections"
)

// serve runs a server that holds so many connections; POST waits for its body.
func serve(t *testing.T, most int) *connections.Listener {
	t.Helper()
	opened, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener := connections.Limit(opened, most)
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "served")
		}),
	}
	listener.Serve(server, func(r *http.Request) bool { return r.URL.Path == "/readyz" })
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return listener
}

func dial(t *testing.T, l *connections.Listener, request string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	return conn
}

const stalled = "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nx"

// ask sends a request on a connection of its own.
func ask(t *testing.T, l *connections.Listener, path string) *http.Response {
	t.Helper()
	conn := dial(t, l, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: here\r\n\r\n", path))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return response
}

func requireHeld(t *testing.T, l *connections.Listener, held int64) {
	t.Helper()
	require.Eventually(t, func() bool { return l.Counts().Held == held }, 30*time.Second, time.Millisecond, "%+v", l.Counts())
}

// TestConnectionsAreBounded holds that whoever finds no room is told so at once, that probes are
// answered all the same, and that room comes back.
func TestConnectionsAreBounded(t *testing.T) {
	l := serve(t, 4)
	held := make([]net.Conn, 4)
	for i := range held {
		held[i] = dial(t, l, stalled)
	}
	requireHeld(t, l, 4)
	began := time.Now()
	response := ask(t, l, "/")
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Equal(t, "1", response.Header.Get("Retry-After"))
	require.True(t, response.Close)
	response = ask(t, l, "/readyz")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.True(t, response.Close)
	require.Less(t, time.Since(began), time.Minute)
	require.Equal(t, int64(2), l.Counts().Crowded)
	for _, conn := range held {
		require.NoError(t, conn.Close())
	}
	requireHeld(t, l, 0)
	require.Equal(t, http.StatusOK, ask(t, l, "/").StatusCode)
}

// TestAnIdleConnectionMakesRoom holds that connections which wait for a request keep nobody out.
func TestAnIdleConnectionMakesRoom(t *testing.T) {
	l := serve(t, 2)
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	response, err := client.Get("http://" + l.Addr().String())
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, response.Body)
	require.NoError(t, response.Body.Close())
	dial(t, l, "") // It never says anything.
	requireHeld(t, l, 2)
	time.Sleep(1100 * time.Millisecond)
	for range 2 {
		dial(t, l, stalled)
	}
	require.Eventually(t, func() bool { return l.Counts().Evicted == 2 }, 30*time.Second, time.Millisecond)
	require.Zero(t, l.Counts().Crowded)
	requireHeld(t, l, 2)
}

// TestWhatIsCrowdedOutHasNoTime holds that connections without room don't keep probes out for long.
func TestWhatIsCrowdedOutHasNoTime(t *testing.T) {
	l := serve(t, 1)
	dial(t, l, stalled)
	requireHeld(t, l, 1)
	for range 60 {
		dial(t, l, "GET / HTTP/1.1\r\n")
	}
	require.Eventually(t, func() bool { return l.Counts().Refused > 0 }, 30*time.Second, time.Millisecond)
	requireHeld(t, l, 1)
	require.Equal(t, http.StatusOK, ask(t, l, "/readyz").StatusCode)
}

func TestBudget(t *testing.T) {
	for _, test := range []struct {
		budget      connections.Budget
		asked, want int
		err         string
	}{
		{connections.Budget{Files: 1 << 20, Postgres: 16}, 0, 20_000, ""},
		{connections.Budget{Files: 2048, Postgres: 16}, 0, 1904, ""},
		{connections.Budget{Files: 2048, Postgres: 16, Forwards: true}, 0, 952, ""},
		{connections.Budget{Files: 2048, Postgres: 16}, 100, 100, ""},
		{connections.Budget{Files: 2048, Postgres: 16}, 2000, 0, "room for 1904 connections, and 2000 are wanted"},
		{connections.Budget{Files: 128, Postgres: 16}, 0, 0, "room for 0 connections, and 16 are wanted"},
	} {
		got, err := test.budget.Connections(test.asked)
		require.Equal(t, test.want, got, test.budget)
		if test.err == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, test.err)
	}
	require.Positive(t, connections.RaiseFileLimit())
}
