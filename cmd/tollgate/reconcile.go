package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/config"
)

// reconcileCommand compares what each layer says of the same usage.
type reconcileCommand struct {
	config.Database
	format
	From string `placeholder:"YYYY-MM-DD" help:"First day. Default: that of this month, UTC."`
	To   string `placeholder:"YYYY-MM-DD" help:"Last day, included. Default: today, UTC."`
}

// errDiffers makes the command end with a status of its own for scripts.
var errDiffers = errors.New("the layers differ")

// Run compares, and says which organization, meter and day differ and by how much.
func (c reconcileCommand) Run(ctx context.Context, out *output) error {
	from, to, err := c.days(time.Now())
	if err != nil {
		return err
	}
	store, err := openStore(ctx, c.Database)
	if err != nil {
		return err
	}
	defer store.Close()
	found, err := store.Reconcile(ctx, from, to)
	if err != nil {
		return err
	}
	if err := c.show(out, found); err != nil {
		return err
	}
	if n := found.Different(); n > 0 {
		return fmt.Errorf("%w: %d differences from %s to %s", errDiffers, n, from, to)
	}
	return nil
}

func (c reconcileCommand) days(now time.Time) (from, to calendar.Day, err error) {
	from, to = calendar.DayOf(now).Month(), calendar.DayOf(now)
	if c.From != "" {
		if from, err = calendar.ParseDay(c.From); err != nil {
			return 0, 0, fmt.Errorf("--from: %w", err)
		}
	}
	if c.To != "" {
		if to, err = calendar.ParseDay(c.To); err != nil {
			return 0, 0, fmt.Errorf("--to: %w", err)
		}
	}
	if to < from {
		return 0, 0, fmt.Errorf("--to is %s: it must not be before --from, which is %s", to, from)
	}
	return from, to, nil
}

func (c reconcileCommand) show(out *output, found billing.Reconciliation) error {
	return c.print(out, found, "LEFT\tRIGHT\tCOMPARED\tDIFFERENT", func(row func(...any)) {
		for _, one := range found.Compared {
			row(one.Left, one.Right, one.Compared, one.Different)
		}
		if found.Quarantined > 0 {
			row("quarantine", "waits for a decision", found.Quarantined, "")
		}
		if found.MissingBatches > 0 {
			row("missing batches", "acknowledged reports, as far as known", found.MissingBatches, found.MissingReports)
		}
		if found.BatchConflicts > 0 {
			row("batches that differ", "from the one under their identity", found.BatchConflicts, "")
		}
		if len(found.Differences) == 0 {
			return
		}
		row()
		row("COMPARISON", "ORGANIZATION OR INSTANCE", "METER OR BATCH", "DAY", "LEFT", "RIGHT", "DIFFERENCE")
		for _, d := range found.Differences {
			where, what := d.Organization, d.Meter
			if d.Seq > 0 {
				where, what = d.Instance, fmt.Sprintf("batch %d", d.Seq)
			}
			row(d.Comparison, where, what, d.Day, d.LeftValue, d.RightValue, fmt.Sprintf("%+d", d.By()))
		}
	})
}
