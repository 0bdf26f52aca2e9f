package devstack

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

// dial connects to a Temporal server.
func dial(t *testing.T, server *Temporal) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(server.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestTemporalKeepsItsStateAcrossStarts(t *testing.T) {
	t.Parallel()
	config := TemporalConfig{DatabaseFile: filepath.Join(t.TempDir(), "nested", "temporal.db"), Durable: true}
	server, err := StartTemporal(t.Context(), config)
	require.NoError(t, err)
	conn := dial(t, server)
	attributes, err := operatorservice.NewOperatorServiceClient(conn).ListSearchAttributes(t.Context(),
		&operatorservice.ListSearchAttributesRequest{Namespace: TemporalNamespace})
	require.NoError(t, err)
	for _, name := range SearchAttributes() {
		require.Equal(t, enumspb.INDEXED_VALUE_TYPE_KEYWORD, attributes.GetCustomAttributes()[name], name)
	}
	_, err = workflowservice.NewWorkflowServiceClient(conn).RegisterNamespace(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: "kept", WorkflowExecutionRetentionPeriod: durationpb.New(24 * 60 * 60 * 1e9),
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, getStatus(t, server.UIURL()))
	pid := server.process.child.Pid
	stop(t, server)
	requireGone(t, pid)
	stop(t, server)

	config.Port, config.UIPort = server.Port(), server.config.UIPort
	server, err = StartTemporal(t.Context(), config)
	require.NoError(t, err)
	_, err = workflowservice.NewWorkflowServiceClient(dial(t, server)).DescribeNamespace(t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: "kept"})
	require.NoError(t, err)

	_, err = StartTemporal(t.Context(), TemporalConfig{DatabaseFile: config.DatabaseFile})
	require.ErrorIs(t, err, ErrFolderInUse)

	require.NoError(t, server.Crash())
	config.Headless = true
	server, err = StartTemporal(t.Context(), config)
	require.NoError(t, err)
	require.Empty(t, server.UIURL())
	stop(t, server)
}

// getStatus fetches a page.
func getStatus(t *testing.T, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

func TestEnsureSearchAttributesAddsWhatIsMissing(t *testing.T) {
	t.Parallel()
	server, err := StartTemporal(t.Context(), TemporalConfig{DatabaseFile: filepath.Join(t.TempDir(), "temporal.db"), Headless: true})
	require.NoError(t, err)
	defer stop(t, server)
	conn := dial(t, server)
	operator := operatorservice.NewOperatorServiceClient(conn)
	_, err = operator.RemoveSearchAttributes(t.Context(), &operatorservice.RemoveSearchAttributesRequest{
		Namespace: TemporalNamespace, SearchAttributes: SearchAttributes()[:1],
	})
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, EnsureSearchAttributes(t.Context(), conn, TemporalNamespace))
	}
	attributes, err := operator.ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: TemporalNamespace})
	require.NoError(t, err)
	require.Contains(t, attributes.GetCustomAttributes(), SearchAttributes()[0])
	require.ErrorContains(t, EnsureSearchAttributes(t.Context(), conn, "missing"), "list the search attributes of namespace missing")
}

func TestTemporalEndsWithAKilledProcess(t *testing.T) {
	t.Parallel()
	helper, pid := startHelper(t, "temporal", filepath.Join(t.TempDir(), "temporal.db"))
	killHard(t, helper)
	requireGone(t, pid)
}

// A start ends a server that nobody owns any more.
func TestTemporalEndsAnOrphan(t *testing.T) {
	t.Parallel()
	config := TemporalConfig{DatabaseFile: filepath.Join(t.TempDir(), "temporal.db"), Headless: true}
	server, err := StartTemporal(t.Context(), config)
	require.NoError(t, err)
	config.Port = server.Port()
	server.lock.release()

	next, err := StartTemporal(t.Context(), config)
	require.NoError(t, err)
	requireGone(t, server.process.child.Pid)
	stop(t, next)
}

func TestStartTemporalRefuses(t *testing.T) {
	t.Parallel()
	_, err := StartTemporal(t.Context(), TemporalConfig{})
	require.EqualError(t, err, "TemporalConfig.DatabaseFile is required")

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	taken := listener.Addr().(*net.TCPAddr).Port
	file := filepath.Join(t.TempDir(), "temporal.db")
	_, err = StartTemporal(t.Context(), TemporalConfig{DatabaseFile: file, Port: taken})
	require.ErrorIs(t, err, ErrPortTaken)
	require.EqualError(t, err, "port "+strconv.Itoa(taken)+" is taken by another program: pass another with --temporal-port")
	_, err = StartTemporal(t.Context(), TemporalConfig{DatabaseFile: file, UIPort: taken, UIPortFlag: "--ui-port"})
	require.ErrorIs(t, err, ErrPortTaken)
	require.ErrorContains(t, err, "pass another with --ui-port")

	require.NoError(t, os.WriteFile(file, []byte("this is no database, and it is long enough to be read as one"), 0o600))
	_, err = StartTemporal(t.Context(), TemporalConfig{DatabaseFile: file, Headless: true, DatabaseFlag: "--temporal-db"})
	require.ErrorContains(t, err, "temporal can't run on its database file "+file)
	require.ErrorContains(t, err, "file is not a database")
	require.ErrorContains(t, err, "restore the file, give --temporal-db, or remove the file")
}
