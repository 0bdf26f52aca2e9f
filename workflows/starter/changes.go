package starter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/workflows"
)

// ErrBranchNeeded says that runs are open which need a branch that this version of the program has
// no more: they would be stuck.
var ErrBranchNeeded = errors.New("open runs need code that this version doesn't have")

// CheckChanges makes sure that no run is open from before a change of which this program has dropped
// the branch: that is [ErrBranchNeeded]. Those that have ended and are retained are a warning: they can't
// be reset or queried by this program.
func CheckChanges(ctx context.Context, c client.Client, namespace string, changes []workflows.Change, logger *slog.Logger) error {
	for _, change := range changes {
		if change.Least == workflow.DefaultVersion {
			continue
		}
		retained, err := countWithout(ctx, c, namespace, change, "")
		if err != nil {
			return err
		}
		if retained == 0 {
			continue
		}
		open, err := countWithout(ctx, c, namespace, change, ` AND ExecutionStatus = "Running"`)
		if err != nil {
			return err
		}
		if open > 0 {
			return fmt.Errorf("%w: %d runs of %s began before the change %s: let the version before this one end them", ErrBranchNeeded, open, strings.Join(change.Types, ", "), change.ID)
		}
		logger.Warn("Temporal retains runs from before a change whose branch is gone: they can't be reset or queried", "change", change.ID, "types", change.Types, "runs", retained)
	}
	return nil
}

// countWithout counts the runs that a change changes, and that have gone by none of the versions that
// there are branches for.
func countWithout(ctx context.Context, c client.Client, namespace string, change workflows.Change, further string) (int64, error) {
	query := fmt.Sprintf(`WorkflowType IN ("%s")%s`, strings.Join(change.Types, `", "`), further)
	all, err := countRuns(ctx, c, namespace, query)
	if err != nil || all == 0 {
		return 0, err
	}
	var has []string
	for version := change.Least; version <= change.Most; version++ {
		has = append(has, fmt.Sprintf(`"%s-%d"`, change.ID, version))
	}
	with, err := countRuns(ctx, c, namespace, query+" AND TemporalChangeVersion IN ("+strings.Join(has, ", ")+")")
	return all - with, err
}

func countRuns(ctx context.Context, c client.Client, namespace, query string) (int64, error) {
	counted, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: query})
	if err != nil {
		return 0, fmt.Errorf("count runs: %w", err)
	}
	return counted.GetCount(), nil
}
