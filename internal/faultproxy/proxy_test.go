package faultproxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/riverline/tollgate/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that answers what it is sent.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// ask sends a byte and returns what came of it within a while.
func ask(conn net.Conn) error {
	if _, err := conn.Write([]byte{7}); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestFaults(t *testing.T) {
	p, err := faultproxy.New(echo(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", p.Address())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	first := dial()
	require.NoError(t, ask(first))

	p.Cut()
	require.Error(t, ask(first), "what was open is closed")
	require.Error(t, ask(dial()), "and so is what comes")
	p.Heal()
	second := dial()
	require.NoError(t, ask(second))

	p.Delay(50 * time.Millisecond)
	began := time.Now()
	require.NoError(t, ask(second))
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond, "there and back")
	p.Heal()

	p.Stall()
	var timeout net.Error
	require.ErrorAs(t, ask(second), &timeout)
	require.True(t, timeout.Timeout(), "nothing comes, and nothing is closed")
	p.Heal()
	_ = second.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = io.ReadFull(second, make([]byte, 1))
	require.NoError(t, err, "what was held back arrives")
}

func TestTargetThatIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	p, err := faultproxy.New(address)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", p.Address())
	require.NoError(t, err)
	defer conn.Close()
	require.Error(t, ask(conn))
	require.NoError(t, p.Close())
}
