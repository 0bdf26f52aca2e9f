package starter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
)

// KeptStore is what a [Keeper] asks of the store.
type KeptStore interface {
	// OverdueWebhookDeliveries returns deliveries that were to be tried earlier than lateBy ago.
	OverdueWebhookDeliveries(ctx context.Context, after webhooks.Delivery, lateBy time.Duration, limit int) ([]webhooks.OverdueDelivery, error)
	// OpenExports returns the runs that have not ended.
	OpenExports(ctx context.Context) ([]billing.Export, error)
	// FailExport ends a run that has issued nothing.
	FailExport(ctx context.Context, id uuid.UUID, stage billing.Stage, reason string) error
	// UnclosedPeriods returns the periods that are over and that nobody closes.
	UnclosedPeriods(ctx context.Context) ([]calendar.Period, error)
}

// KeeperConfig says what a [Keeper] works with.
type KeeperConfig struct {
	// Temporal and Store are required.
	Temporal client.Client
	Store    KeptStore
	// Codecs are those of the client.
	Codecs []converter.PayloadCodec
	// Namespace is that of Temporal.
	Namespace string
	// KeepSchedules leaves schedules and search attributes alone.
	KeepSchedules bool
	// LateBy is how late a delivery may be before it is looked for. Required.
	LateBy time.Duration
	// Delivery is the input of the workflow of a delivery. Required.
	Delivery func(webhooks.Delivery) workflows.DeliverEventInput
	// Logger is told of what had to be done. Required.
	Logger *slog.Logger
}

// Keeper brings Temporal to what the store says, should its state be lost or replaced while programs run:
// the singleton and the schedules are there, deliveries that are due are tried, a close that is
// under way goes on. Any number may run at once.
type Keeper struct {
	config KeeperConfig
	// overdue is the last delivery that was looked at.
	overdue  webhooks.Delivery
	unclosed []calendar.Period
}

// NewKeeper makes a keeper. One goroutine at a time may use it.
func NewKeeper(config KeeperConfig) *Keeper { return &Keeper{config: config} }

// overduePage is how many overdue deliveries are read at a time.
const overduePage = 500

// Keep does all of it once. What fails keeps nothing else from being done.
func (k *Keeper) Keep(ctx context.Context) error {
	return errors.Join(k.prepare(ctx), k.dispatch(ctx), k.deliveries(ctx), k.exports(ctx), k.periods(ctx))
}

func (k *Keeper) prepare(ctx context.Context) error {
	if k.config.KeepSchedules {
		return nil
	}
	// Whoever may not register search attributes was told at the start.
	if err := EnsureSearchAttributes(ctx, k.config.Temporal, k.config.Namespace); err != nil && !errors.Is(err, ErrSearchAttributes) {
		return err
	}
	changed, err := EnsureSchedules(ctx, k.config.Temporal, k.config.Codecs...)
	if len(changed) > 0 {
		k.config.Logger.Warn("Schedules were missing in Temporal or differed, and are put right", "schedules", changed)
	}
	return err
}

func (k *Keeper) dispatch(ctx context.Context) error {
	started, err := EnsureDispatchEvents(ctx, k.config.Temporal, workflows.DispatchEventsInput{})
	if err == nil && !started.Joined {
		k.config.Logger.Warn("The workflow that dispatches events did not run in Temporal, and is started", "workflow", started.WorkflowID)
	}
	return err
}

// deliveries starts those that are overdue and have no run. A page of which all have one is enough for
// one look: they wait for their turn, and there may be any number of them. The next look goes on after it.
func (k *Keeper) deliveries(ctx context.Context) error {
	resumed := 0
	defer func() {
		if resumed > 0 {
			k.config.Logger.Warn("Deliveries that were due had no workflow in Temporal, and go on", "deliveries", resumed)
		}
	}()
	for {
		overdue, err := k.config.Store.OverdueWebhookDeliveries(ctx, k.overdue, k.config.LateBy, overduePage)
		if err != nil {
			return err
		}
		before := resumed
		for _, d := range overdue {
			in := k.config.Delivery(d.Delivery)
			in.Made = d.Made
			started, err := ResumeDeliverEvent(ctx, k.config.Temporal, in)
			if err != nil {
				return err
			}
			if !started.Joined {
				resumed++
			}
			k.overdue = d.Delivery
		}
		if len(overdue) < overduePage {
			k.overdue = webhooks.Delivery{}
			return nil
		}
		if resumed == before {
			return nil
		}
	}
}

// exports looks after the runs that have not ended in the store.
func (k *Keeper) exports(ctx context.Context) error {
	open, err := k.config.Store.OpenExports(ctx)
	var failures error
	for _, e := range open {
		if err := k.export(ctx, e); err != nil {
			failures = errors.Join(failures, fmt.Errorf("export %s of %s: %w", e.ID, e.Period, err))
		}
	}
	return errors.Join(err, failures)
}

func (k *Keeper) export(ctx context.Context, e billing.Export) error {
	// The newest run counts: who resets a workflow makes another one, which goes on with the same export.
	described, err := k.config.Temporal.DescribeWorkflowExecution(ctx, e.WorkflowID, "")
	log := k.config.Logger.With("export", e.ID, "period", e.Period, "stage", e.Stage, "workflow", e.WorkflowID)
	switch {
	case isNotFound(err):
		return k.resumeExport(ctx, e, log)
	case err != nil:
		return fmt.Errorf("describe workflow %s: %w", e.WorkflowID, err)
	}
	status := described.GetWorkflowExecutionInfo().GetStatus()
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING || status == enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
		return nil
	}
	if e.IssuedAt != nil {
		log.Error("A close whose statements are issued was ended in Temporal: export the period again, which ends it as closed", "status", status)
		return nil
	}
	log.Warn("An export was ended in Temporal without saying so, and counts as canceled", "status", status)
	return k.config.Store.FailExport(ctx, e.ID, billing.StageCanceled, "its workflow was ended in Temporal: "+status.String())
}

// resumeExport starts a run that Temporal has lost.
func (k *Keeper) resumeExport(ctx context.Context, e billing.Export, log *slog.Logger) error {
	if e.Provisional {
		log.Warn("Temporal has lost a provisional export: it counts as failed")
		return k.config.Store.FailExport(ctx, e.ID, billing.StageFailed, "Temporal has lost its workflow: export the period again")
	}
	in := workflows.ExportPeriodInput{RequestedByID: e.RequestedByID}
	if len(e.Request) > 0 {
		if err := json.Unmarshal(e.Request, &in); err != nil {
			return fmt.Errorf("read what was requested: %w", err)
		}
	}
	in.Period, in.RequestedBy = e.Period.String(), e.RequestedBy
	if e.IssuedAt != nil {
		// The run finds it issued, and ends it as closed.
		in.Reopen = false
	}
	started, err := StartExport(ctx, k.config.Temporal, in)
	if err != nil || started.Joined {
		return err
	}
	log.Warn("Temporal has lost an export that was under way: another run is started, and makes it up to where finance decides", "run", started.RunID)
	if e.IssuedAt == nil {
		return nil
	}
	_, err = StartDeliverExport(ctx, k.config.Temporal, workflows.DeliverExportInput{Period: in.Period, Export: e.ID, RequestedBy: e.RequestedBy})
	return err
}

// periods says which periods nobody closes, when that changes.
func (k *Keeper) periods(ctx context.Context) error {
	found, err := k.config.Store.UnclosedPeriods(ctx)
	if err != nil || slices.Equal(found, k.unclosed) {
		return err
	}
	k.unclosed = found
	if len(found) > 0 {
		k.config.Logger.Error("Billing periods are over and nobody closes them: export them", "periods", fmt.Sprint(found))
	}
	return nil
}
