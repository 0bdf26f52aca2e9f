// Package stripetest runs Stripe's own mock for tests.
package stripetest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// Key is no secret: the mock takes any that looks like one.
const Key = "sk_test_123"

// Start runs the mock until the test ends, and returns its address, "http://127.0.0.1:…". It
// checks requests against Stripe's OpenAPI document, and keeps nothing.
func Start(t *testing.T) string {
	t.Helper()
	server, err := devstack.StartTool(t.Context(), devstack.ToolServerConfig{
		Tool: devstack.StripeMock,
		// It listens for HTTPS in any case: on a fixed port, unless the system chooses one.
		Arguments: func(address string) []string { return []string{"-http-addr", address, "-https-addr", "127.0.0.1:0"} },
		LogFile:   filepath.Join(t.TempDir(), "stripe-mock.log"),
		Output:    os.Stderr,
		Ready: func(ctx context.Context, address string) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	return "http://" + server.Address()
}
