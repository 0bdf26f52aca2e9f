package devstack

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckPort(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken := listener.Addr().String()
	_, port, err := net.SplitHostPort(taken)
	require.NoError(t, err)

	err = CheckPort(taken, "--port")
	require.ErrorIs(t, err, ErrPortTaken)
	require.EqualError(t, err, "port "+port+" is taken by another program: pass another with --port")

	require.NoError(t, listener.Close())
	require.NoError(t, CheckPort(taken, "--port"))
	require.NoError(t, CheckPort(taken, "--port"), "a check must not leave the port taken")

	require.ErrorContains(t, CheckPort("8080", "--port"), `--port: "8080" is not a host:port`)
	require.ErrorContains(t, CheckPort("127.0.0.1:99999", "--port"), "port 99999 can't be used (see --port)")
}

func TestFreePort(t *testing.T) {
	t.Parallel()
	seen := make(map[int]bool)
	for range 50 {
		port, err := FreePort()
		require.NoError(t, err)
		require.False(t, seen[port], "port %d was given twice", port)
		require.Less(t, port, lastFreePort)
		require.GreaterOrEqual(t, port, firstFreePort)
		require.NoError(t, CheckPort(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "--port"))
		seen[port] = true
	}
}

// TestNoConnectionTakesAFreePort opens more connections than a busy machine has, and
// looks for a source port among those that are given to servers.
func TestNoConnectionTakesAFreePort(t *testing.T) {
	t.Parallel()
	address, err := FreeAddress()
	require.NoError(t, err)
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	for range 200 {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.GreaterOrEqual(t, conn.LocalAddr().(*net.TCPAddr).Port, lastFreePort)
	}
}

func TestGivenOrFreePort(t *testing.T) {
	t.Parallel()
	_, err := givenOrFreePort(70000, "--postgres-port")
	require.EqualError(t, err, "--postgres-port must be between 0 and 65535, is 70000")
	_, err = givenOrFreePort(-1, "--postgres-port")
	require.EqualError(t, err, "--postgres-port must be between 0 and 65535, is -1")

	free, err := givenOrFreePort(0, "--postgres-port")
	require.NoError(t, err)
	again, err := givenOrFreePort(free, "--postgres-port")
	require.NoError(t, err)
	require.Equal(t, free, again)
}
