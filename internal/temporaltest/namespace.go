package temporaltest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/riverline/tollgate/internal/devstack"
)

const (
	// retention is how long a namespace keeps closed workflows; the server takes no less.
	retention = 24 * time.Hour
	// usableWait bounds the time until every service of the server knows a namespace.
	usableWait = 30 * time.Second
)

// Namespace is a namespace that one test has for itself.
type Namespace struct {
	// Address is the host:port of the server.
	Address string
	// Name is the namespace's name. It begins with that of the test.
	Name string
}

// NewNamespace makes a namespace on the shared server, and returns a client of it that
// is closed at the end of the test. It is short for Register(t).Dial(t).
func NewNamespace(t testing.TB) client.Client {
	t.Helper()
	return Register(t).Dial(t)
}

// Register makes a namespace on the shared server, with Tollgate's search attributes, and
// returns once workflows can be started in it.
func Register(t testing.TB) Namespace {
	t.Helper()
	return register(t, sharedAddress(t))
}

// Dial returns a client of the namespace that is closed at the end of the test. It logs
// errors only.
func (n Namespace) Dial(t testing.TB) client.Client {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	connected, err := client.DialContext(t.Context(), client.Options{
		HostPort: n.Address, Namespace: n.Name, Logger: log.NewStructuredLogger(logger),
	})
	require.NoError(t, err)
	t.Cleanup(connected.Close)
	return connected
}

// unsuitable matches what a namespace's name must not have.
var unsuitable = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

func register(t testing.TB, address string) Namespace {
	t.Helper()
	name := unsuitable.ReplaceAllString(t.Name(), "-")
	namespace := Namespace{Address: address, Name: name[:min(len(name), 60)] + "-" + strings.ToLower(rand.Text()[:10])}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), usableWait)
	defer cancel()

	_, err = workflowservice.NewWorkflowServiceClient(conn).RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace:                        namespace.Name,
		Description:                      t.Name(),
		WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	})
	require.NoError(t, err, "register a namespace at %s", address)
	require.NoError(t, namespace.await(ctx, func(ctx context.Context) error {
		return devstack.EnsureSearchAttributes(ctx, conn, namespace.Name)
	}))
	require.NoError(t, namespace.await(ctx, func(ctx context.Context) error {
		return namespace.usable(ctx, workflowservice.NewWorkflowServiceClient(conn))
	}))
	return namespace
}

// await repeats a call until it succeeds.
func (n Namespace) await(ctx context.Context, call func(context.Context) error) error {
	for {
		err := call(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("namespace %s does not become usable: %w", n.Name, errors.Join(context.Cause(ctx), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// usable asks each service of the server something about the namespace. Each has a
// cache of namespaces of its own, and does not know a new one at once.
func (n Namespace) usable(ctx context.Context, service workflowservice.WorkflowServiceClient) error {
	_, err := service.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: n.Name,
		Query:     devstack.SearchAttributes()[0] + " = 'none'",
	})
	if err != nil {
		return fmt.Errorf("ask visibility: %w", err)
	}
	_, err = service.DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
		Namespace:     n.Name,
		TaskQueue:     &taskqueuepb.TaskQueue{Name: "none", Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		TaskQueueType: enumspb.TASK_QUEUE_TYPE_WORKFLOW,
	})
	if err != nil {
		return fmt.Errorf("ask matching: %w", err)
	}
	_, err = service.DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: n.Name,
		Execution: &commonpb.WorkflowExecution{WorkflowId: "none"},
	})
	if notFound := (*serviceerror.NotFound)(nil); !errors.As(serviceerror.FromStatus(serviceerror.ToStatus(err)), &notFound) {
		return fmt.Errorf("ask history: %w", err)
	}
	return nil
}
