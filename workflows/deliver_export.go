package workflows

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/sinks"
)

// DeliverExportInput says whose statements are delivered.
type DeliverExportInput struct {
	// Period is a billing month of the form YYYY-MM. Required.
	Period string `json:"period"`
	// Export is the run that issued the statements. Required.
	Export uuid.UUID `json:"export"`
	// RequestedBy says who asked: a key's name, "export". Empty: "temporal-ui".
	RequestedBy string `json:"requested_by,omitempty"`
}

// SinkDelivery says what became of an export's statements in a sink.
type SinkDelivery struct {
	Sink string `json:"sink"`
	// Pages are the pages of organizations; PagesDone of them are done.
	Pages     int `json:"pages"`
	PagesDone int `json:"pages_done"`
	// Counts are those of the pages that are done, deliveries of runs before included.
	Counts sinks.Counts `json:"counts"`
}

// DeliverExportProgress is how far a [DeliverExport] is.
type DeliverExportProgress struct {
	Period      string    `json:"period"`
	Export      uuid.UUID `json:"export"`
	RequestedBy string    `json:"requested_by"`
	// Stage is delivering, done, failed or canceled.
	Stage billing.Stage `json:"stage"`
	// Sinks are those that some worker has the key of; none: nothing is delivered.
	Sinks []SinkDelivery `json:"sinks"`
	// Error is why the run failed; empty otherwise.
	Error string `json:"error,omitempty"`
}

// DeliverExport hands the issued statements of an export to each sink, those that it has not
// taken. What can't be delivered is recorded, with the reason, and holds up nothing: a later
// run tries it again. Under its fixed ID one runs at a time: what a revision is the difference
// to is known only once what was delivered of the one before is.
func DeliverExport(ctx workflow.Context, in DeliverExportInput) (DeliverExportProgress, error) {
	period, err := periodOf(in.Period)
	if err != nil {
		return DeliverExportProgress{}, err
	}
	if in.Export == uuid.Nil {
		return DeliverExportProgress{}, refuse(TypeInvalidInput, "export is missing: whose statements to deliver")
	}
	if id := workflow.GetInfo(ctx).WorkflowExecution.ID; id != DeliverExportID(period) {
		return DeliverExportProgress{}, refuse(TypeInvalidInput, "the workflow ID is %q: it must be %q, so that one runs at a time", id, DeliverExportID(period))
	}
	if in.RequestedBy == "" {
		in.RequestedBy = temporalUI
	}
	d := &delivery{progress: DeliverExportProgress{Period: in.Period, Export: in.Export, RequestedBy: in.RequestedBy, Sinks: []SinkDelivery{}}}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (DeliverExportProgress, error) { return d.progress, nil }); err != nil {
		return d.progress, fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	if err := d.show(ctx, billing.StageDelivering); err != nil {
		return d.progress, err
	}
	if err := d.run(ctx); err != nil {
		stage := billing.StageFailed
		d.progress.Error = reason(err)
		if isCanceled(ctx) {
			stage = billing.StageCanceled
		}
		if shown := d.show(ctx, stage); shown != nil {
			return d.progress, shown
		}
		return d.progress, err
	}
	return d.progress, d.show(ctx, billing.StageDone)
}

type delivery struct{ progress DeliverExportProgress }

func (d *delivery) run(ctx workflow.Context) error {
	found, err := listSinks(ctx)
	if err != nil || len(found) == 0 {
		return err
	}
	var plan activities.PlanDeliveryResult
	err = workflow.ExecuteActivity(forBulk(ctx, "divide the statements into pages"), onSinks.PlanDelivery, activities.PlanDeliveryInput{
		Export: d.progress.Export, PageSize: deliveryPageSize,
	}).Get(ctx, &plan)
	if err != nil {
		return err
	}
	for _, sink := range found {
		d.progress.Sinks = append(d.progress.Sinks, SinkDelivery{Sink: sink, Pages: len(plan.Until)})
	}
	for i := range d.progress.Sinks {
		err := inPages(ctx, len(plan.Until), deliveriesAtOnce, func(ctx workflow.Context, page int) error {
			return d.page(ctx, &d.progress.Sinks[i], plan.Until, page)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) page(ctx workflow.Context, to *SinkDelivery, until []uuid.UUID, page int) error {
	in := activities.DeliverStatementsInput{Export: d.progress.Export, Sink: to.Sink, Until: until[page]}
	if page > 0 {
		in.After = until[page-1]
	}
	var done activities.DeliverStatementsResult
	summary := fmt.Sprintf("deliver page %d of %d to %s", page+1, len(until), to.Sink)
	if err := workflow.ExecuteActivity(forSink(ctx, summary), onSinks.DeliverStatements, in).Get(ctx, &done); err != nil {
		return err
	}
	to.PagesDone++
	to.Counts = to.Counts.Add(done.Counts)
	d.showDetails(ctx)
	return nil
}

// show changes the stage where people look.
func (d *delivery) show(ctx workflow.Context, stage billing.Stage) error {
	d.progress.Stage = stage
	d.showDetails(ctx)
	return setStage(ctx, string(stage))
}

func (d *delivery) showDetails(ctx workflow.Context) {
	p := d.progress
	rows := [][2]string{{"requested", p.RequestedBy}, {"export", p.Export.String()}, {"error", p.Error}}
	if p.Stage == billing.StageDone && len(p.Sinks) == 0 {
		rows = append(rows, [2]string{"sinks", "there are none"})
	}
	for _, s := range p.Sinks {
		rows = append(rows, [2]string{s.Sink, fmt.Sprintf("%d of %d pages: %s", s.PagesDone, s.Pages, countsOf(s.Counts))})
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s** · period %s\n\n%s", p.Stage, p.Period, table(rows...)))
}

// countsOf says what became of statements.
func countsOf(c sinks.Counts) string {
	text := fmt.Sprintf("%d delivered", c.Delivered)
	for _, more := range []struct {
		count int64
		says  string
	}{
		{c.NoCustomer, "without a customer"},
		{c.NothingDue, "with nothing due"},
		{c.Unchanged, "as delivered before"},
		{c.Failed, "failed"},
		{c.Pending, "pending"},
	} {
		if more.count > 0 {
			text += fmt.Sprintf(", %d %s", more.count, more.says)
		}
	}
	return text
}

func deliveriesOf(all []SinkDelivery) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, s.Sink+": "+countsOf(s.Counts))
	}
	return strings.Join(texts, "; ")
}

// listSinks asks which sinks there are: which keys workers have, no workflow knows.
func listSinks(ctx workflow.Context) ([]string, error) {
	var found activities.ListSinksResult
	err := workflow.ExecuteActivity(forStore(ctx, "ask which sinks there are"), onSinks.ListSinks).Get(ctx, &found)
	return found.Sinks, err
}

// deliver is the stage delivering: the statements go to the sinks, if there are any. However
// that ends, the period is closed: what was not delivered is listed, and tried again by hand.
func (r *exportRun) deliver(ctx workflow.Context) error {
	found, err := listSinks(ctx)
	if err != nil || len(found) == 0 {
		return err
	}
	p := r.progress()
	in := DeliverExportInput{Period: p.Period, Export: p.ID, RequestedBy: "export"}
	options := childOptions(DeliverExportID(r.period), DeliverExportSummary(r.period), deliverExportAttributes(r.period)...)
	options.Memo = map[string]any{MemoRequestedBy: in.RequestedBy}
	for {
		var done DeliverExportProgress
		joined, err := runFixed(ctx, true, options, DeliverExport, in, &done)
		switch {
		case joined:
			// That of the revision before, perhaps: what this one differs by is known after it.
			if err := awaitRun(ctx, options.WorkflowID, "another delivery of "+p.Period+" runs"); err != nil {
				return err
			}
			continue
		case err != nil:
			p.DeliveryError = reason(err)
			workflow.GetLogger(ctx).Error("The statements of an export could not be delivered", "export", p.ID, "error", err)
		}
		p.Deliveries = done.Sinks
		r.showDetails(ctx)
		return nil
	}
}

func deliverExportAttributes(period calendar.Period) []temporal.SearchAttributeUpdate {
	return []temporal.SearchAttributeUpdate{
		PeriodAttribute.ValueSet(period.String()), StageAttribute.ValueSet(string(billing.StageDelivering)),
	}
}

// DeliverExportAttributes are the search attributes with which a DeliverExport is started.
func DeliverExportAttributes(period calendar.Period) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(deliverExportAttributes(period)...)
}

// DeliverExportSummary is the one line that lists of workflows show of a DeliverExport.
func DeliverExportSummary(period calendar.Period) string {
	return fmt.Sprintf("Delivers the statements of the billing period %s", period)
}
