package workflows

import (
	"fmt"
	"strconv"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/billing"
)

// show changes the stage where people look.
func (r *exportRun) show(ctx workflow.Context, stage billing.Stage) error {
	r.progress().Stage = stage
	r.showDetails(ctx)
	return setStage(ctx, string(stage))
}

func (r *exportRun) showDetails(ctx workflow.Context) {
	p := r.progress()
	kind := "final"
	if p.Provisional {
		kind = "provisional: what was used before " + stamp(p.Cut)
	}
	var files, totals []string
	for _, f := range p.Files {
		files = append(files, fmt.Sprintf("%s (%d rows, %d bytes)", f.Name, f.Rows, f.Bytes))
	}
	for _, t := range p.Totals {
		totals = append(totals, fmt.Sprintf("%s %s of %d organizations", t.Meter, t.Value, t.Organizations))
	}
	rows := [][2]string{
		{"kind", kind},
		{"requested", p.RequestedBy + ", " + stamp(p.RequestedAt)},
		{"instances that have flushed", strconv.Itoa(p.Live)},
		{"days rolled up", strconv.Itoa(p.RolledUp)},
		{"rolling up", p.RollingUp},
		{"pages rated", ofPages(p)},
		{"statements", counted(p.Statements)},
		{"parked: could not be rated", counted(p.Parked)},
		{"variances against the period before", counted(p.Variances)},
		{"batches of usage that are lost", counted(p.MissingBatches)},
		{"money", moneyOf(p)},
		{"waits since", waits(p)},
		{"approved by", p.ApprovedBy},
		{"delivered", deliveriesOf(p.Deliveries)},
		{"delivery failed", p.DeliveryError},
		{"folder", p.Folder},
		{"files", strings.Join(files, ", ")},
		{"totals", strings.Join(totals, "; ")},
		{"error", p.Error},
	}
	for _, lost := range p.Lost {
		rows = append(rows, [2]string{"lost", fmt.Sprintf("instance `%s` on %s: what it admitted after %s is missing", lost.Instance, lost.Host, stamp(lost.Watermark))})
	}
	for _, i := range p.Waiting[:min(len(p.Waiting), shownInstances)] {
		rows = append(rows, [2]string{"waits for", awaitedText(i)})
	}
	for _, i := range p.Without[:min(len(p.Without), shownInstances)] {
		rows = append(rows, [2]string{"went on without", awaitedText(i) + "; decided by " + p.ContinuedBy + ": what it flushes later is corrected in the next period"})
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s** · period %s\n\n%s", p.Stage, p.Period, table(rows...)))
}

// shownInstances bounds how many instances the details name.
const shownInstances = 20

// awaitedText names an instance, and what holds it up as far as it has said.
func awaitedText(i billing.AwaitedInstance) string {
	text := fmt.Sprintf("instance `%s` on %s, flushed up to %s, seen at %s", i.Instance, i.Host, stamp(i.Watermark), stamp(i.SeenAt))
	if i.Open > 0 {
		text += fmt.Sprintf("; of %d requests under way the oldest is of organization `%s`, meter %s, since %s",
			i.Open, i.OpenOrganization, i.OpenMeter, stamp(i.OpenSince))
	}
	return text
}

func ofPages(p *ExportPeriodProgress) string {
	if p.Pages == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d", p.PagesRated, p.Pages)
}

// counted writes a number; nothing for none.
func counted(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func moneyOf(p *ExportPeriodProgress) string {
	var sums []string
	for _, m := range p.Money {
		sums = append(sums, fmt.Sprintf("%s %s due on %d statements", m.Due, m.Currency, m.Statements))
	}
	return strings.Join(sums, "; ")
}

func waits(p *ExportPeriodProgress) string {
	waiting := p.Stage == billing.StageReviewing || p.Stage == billing.StageApproving
	if !waiting || p.AwaitingSince.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s, %d reminders", stamp(p.AwaitingSince), p.Reminders)
}
