package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

type exportCommand struct {
	Start    exportStart    `cmd:"" help:"Start the export of a period, or find the run that is under way."`
	Status   exportStatus   `cmd:"" help:"Show how far a period's export is."`
	List     exportList     `cmd:"" help:"List exports, the newest first."`
	Download exportDownload `cmd:"" help:"Download the files of a period's export, and check them against the manifest."`

	Variances   exportVariances   `cmd:"" help:"List statements that differ from the period before."`
	Parked      exportParked      `cmd:"" help:"List organizations that could not be rated."`
	Corrections exportCorrections `cmd:"" help:"List corrections of closed periods: a preview, until the export is issued."`
	Explain     exportExplain     `cmd:"" help:"Show an organization's statement with its arithmetic, step by step."`
	Review      exportReview      `cmd:"" help:"Accept the variances of an export."`
	Approve     exportApprove     `cmd:"" help:"Approve an export that somebody else requested: its statements are issued."`
	Reject      exportReject      `cmd:"" help:"Reject an export: nothing is issued."`
	Continue    exportContinue    `cmd:"" help:"Have an export go on without the instances that it waits for."`
	Cancel      exportCancel      `cmd:"" help:"Cancel an export in any stage before issuing."`
	Retry       exportRetry       `cmd:"" help:"Rate the organizations again that could not be rated."`
	Reopen      exportReopen      `cmd:"" help:"Open a closed period again, as its next revision."`
	Decisions   exportDecisions   `cmd:"" help:"Show who decided what, when and why."`
	Deliveries  exportDeliveries  `cmd:"" help:"Show what became of the statements in Stripe: delivered, skipped or failed, and why."`
	Deliver     exportDeliver     `cmd:"" help:"Deliver the statements of a closed period that were not delivered."`
	Verify      exportVerify      `cmd:"" help:"Check downloaded files: hashes, sums, numbers, and against the database."`
	Diff        exportDiff        `cmd:"" help:"Say what differs between two revisions, for whom and why."`
}

// periodFlag names a period; the one that runs now is the default.
type periodFlag struct {
	Period calendar.Period `placeholder:"YYYY-MM" help:"The month. Default: the current one, whose export is provisional."`
}

func (p periodFlag) period() string {
	if p.Period.IsZero() {
		return calendar.PeriodOf(time.Now()).String()
	}
	return p.Period.String()
}

// export is what the API says of an export.
type export struct {
	Period      string        `json:"period"`
	WorkflowID  string        `json:"workflow_id"`
	RunID       string        `json:"run_id"`
	Stage       billing.Stage `json:"stage"`
	Provisional bool          `json:"provisional"`
	Revision    int           `json:"revision"`
	Reason      string        `json:"reason,omitempty"`
	IssuedAt    *time.Time    `json:"issued_at,omitempty"`
	Cut         time.Time     `json:"cut"`
	RequestedBy string        `json:"requested_by"`
	RequestedAt time.Time     `json:"requested_at"`
	FinishedAt  *time.Time    `json:"finished_at,omitempty"`
	Error       string        `json:"error,omitempty"`
	TemporalURL string        `json:"temporal_url,omitempty"`
	Progress    *exportStep   `json:"progress,omitempty"`
	// WaitingFor are the instances that it waits for, where it does.
	WaitingFor []billing.AwaitedInstance `json:"waiting_for,omitempty"`
	Files      []exportFile              `json:"files"`
	// Counts says how many organizations were rated, parked and differ.
	Counts *billing.RatingCounts `json:"counts,omitempty"`
	// Manifest is there once the files are written.
	Manifest *billing.Manifest `json:"manifest,omitempty"`
}

// exportFile is a file that can be downloaded. The manifest has no digest.
type exportFile struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	SHA256 string `json:"sha256,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Rows   int64  `json:"rows,omitempty"`
}

// exportStep is what a run that is under way does now.
type exportStep struct {
	Note  string `json:"note"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

func (f format) exports(out *output, value any, list ...export) error {
	return f.print(out, value, "PERIOD\tSTAGE\tCUT\tBY\tRUN", func(row func(...any)) {
		for _, e := range list {
			stage := string(e.Stage)
			if e.Provisional {
				stage += " (provisional)"
			}
			if e.Error != "" {
				stage += ": " + e.Error
			}
			row(e.Period, stage, e.Cut.Format(time.RFC3339), e.RequestedBy, e.RunID)
		}
	})
}

type exportStart struct {
	financeAccess
	format
	periodFlag
	exportSettings
	Wait    bool          `negatable:"" default:"true" help:"Wait for the end, or until finance has to decide, with a progress bar where the output is a terminal."`
	Timeout time.Duration `default:"1h" help:"How long to wait."`
}

// started is what the API answers to a start.
type started struct {
	Period      string `json:"period"`
	WorkflowID  string `json:"workflow_id"`
	RunID       string `json:"run_id"`
	Started     bool   `json:"started"`
	StatusURL   string `json:"status_url"`
	TemporalURL string `json:"temporal_url,omitempty"`
}

// started shows a run that was started.
func (f format) started(out *output, run started) error {
	return f.print(out, run, "PERIOD\tWORKFLOW\tRUN\tTEMPORAL UI", func(row func(...any)) {
		row(run.Period, run.WorkflowID, run.RunID, run.TemporalURL)
	})
}

// Run starts an export and, where that is wanted, waits for it.
func (c exportStart) Run(ctx context.Context, out *output) error {
	var run started
	body := c.body()
	body["period"] = c.period()
	if err := c.client().call(ctx, http.MethodPost, path("billing", "exports"), body, &run); err != nil {
		return err
	}
	if !c.Wait {
		return c.started(out, run)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ended, err := awaitExport(ctx, c.client(), out, run)
	if err != nil {
		return err
	}
	if err := c.exports(out, ended, ended); err != nil {
		return err
	}
	if ended.Stage == billing.StageFailed || ended.Stage == billing.StageCanceled || ended.Stage == billing.StageRejected {
		return fmt.Errorf("the export of %s is %s: %s", ended.Period, ended.Stage, ended.Error)
	}
	return nil
}

// pollEvery is the time between two looks at a run.
const pollEvery = 500 * time.Millisecond

// awaitExport follows a run to its end.
func awaitExport(ctx context.Context, c *client, out *output, run started) (export, error) {
	bar := newProgress(out)
	defer bar.close()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		now, err := getExport(ctx, c, run.Period, revisionFlag{})
		var failed *problem
		switch {
		case errors.As(err, &failed) && (failed.status == http.StatusNotFound || failed.status == http.StatusServiceUnavailable):
			// The run has not begun, or the API can't know at the moment.
		case err != nil && ctx.Err() == nil:
			return export{}, err
		case err == nil && now.RunID == run.RunID:
			bar.show(now)
			if now.Stage.Ended() || now.Stage == billing.StageReviewing || now.Stage == billing.StageApproving {
				return now, nil
			}
		}
		select {
		case <-ctx.Done():
			return export{}, fmt.Errorf("the export of %s goes on in %s: %w", run.Period, run.WorkflowID, ctx.Err())
		case <-ticker.C:
		}
	}
}

func getExport(ctx context.Context, c *client, period string, revision revisionFlag) (export, error) {
	var e export
	err := c.call(ctx, http.MethodGet, revision.path(period), nil, &e)
	return e, err
}

// progress shows a run to a person; to a program it shows nothing.
type progress struct{ bar *progressbar.ProgressBar }

func newProgress(out *output) progress {
	if !out.terminal {
		return progress{}
	}
	return progress{progressbar.NewOptions64(-1, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowCount(), progressbar.OptionSetElapsedTime(true))}
}

func (p progress) show(e export) {
	if p.bar == nil {
		return
	}
	note := string(e.Stage)
	if e.Progress != nil {
		note += ": " + e.Progress.Note
		if e.Progress.Total > 0 {
			p.bar.ChangeMax64(e.Progress.Total)
		}
		// A bar that can't be drawn is no reason to stop waiting.
		_ = p.bar.Set64(e.Progress.Done)
	}
	p.bar.Describe(note)
}

func (p progress) close() {
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Close()
	}
}

type exportStatus struct{ exportQuery }

// Run shows one export.
func (c exportStatus) Run(ctx context.Context, out *output) error {
	var e export
	if err := c.get(ctx, &e); err != nil {
		return err
	}
	if err := c.exports(out, e, e); err != nil || c.JSON || !out.terminal {
		return err
	}
	if e.Progress != nil {
		_, _ = fmt.Fprintf(out, "\n%s (%d of %d)\n", e.Progress.Note, e.Progress.Done, e.Progress.Total)
	}
	for _, i := range e.WaitingFor {
		_, _ = fmt.Fprintln(out, "waits for", awaitedText(i))
	}
	if e.Counts != nil && e.Counts.Organizations > 0 {
		_, _ = fmt.Fprintf(out, "\nrevision %d: %d statements of %d organizations, %d parked, %d variances\n",
			e.Revision, e.Counts.Statements, e.Counts.Organizations, e.Counts.Parked, e.Counts.Variances)
		if e.Counts.MissingBatches > 0 {
			_, _ = fmt.Fprintf(out, "%d batches of acknowledged usage are lost, and in no statement: see tollgate reconcile\n", e.Counts.MissingBatches)
		}
	}
	if e.Manifest != nil {
		_, _ = fmt.Fprintln(out)
		for _, total := range e.Manifest.Money {
			_, _ = fmt.Fprintf(out, "due: %s %s on %d statements\n", total.Due, total.Currency, total.Statements)
		}
		for _, total := range e.Manifest.Totals {
			_, _ = fmt.Fprintf(out, "%s: %s over %d organizations\n", total.Meter, total.Value, total.Organizations)
		}
	}
	return nil
}

// awaitedText names an instance, and what holds it up as far as it has said.
func awaitedText(i billing.AwaitedInstance) string {
	text := fmt.Sprintf("instance %s on %s, flushed up to %s, seen at %s", i.Instance, i.Host, i.Watermark.Format(time.RFC3339), i.SeenAt.Format(time.RFC3339))
	if i.Open > 0 {
		text += fmt.Sprintf("; of %d requests under way the oldest is of organization %s, meter %s, since %s",
			i.Open, i.OpenOrganization, i.OpenMeter, i.OpenSince.Format(time.RFC3339))
	}
	return text
}

type exportList struct {
	financeAccess
	format
}

// exportPage is a page of exports.
type exportPage struct {
	Exports []export `json:"exports"`
	cursor
}

// Run lists exports, the newest first.
func (c exportList) Run(ctx context.Context, out *output) error {
	q := pageQuery{method: http.MethodGet, path: path("billing", "exports"), newestFirst: true}
	list, err := everyPage(ctx, c.client(), q, func(page exportPage) []export { return page.Exports })
	if err != nil {
		return err
	}
	return c.exports(out, list, list...)
}
