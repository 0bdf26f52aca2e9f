package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// exportEvent is what webhooks say of an export.
type exportEvent struct {
	// Export identifies the run, Period is its month, Revision counts those of the month, from 1.
	Export   uuid.UUID       `json:"export_id"`
	Period   calendar.Period `json:"period"`
	Revision int32           `json:"revision"`
}

// reminderEvent is what webhooks say of an export that waits for finance.
type reminderEvent struct {
	exportEvent
	billing.Reminder
}

func exportEventOf(e db.Export) exportEvent {
	return exportEvent{Export: e.ID, Period: calendar.PeriodOf(e.Period), Revision: e.Revision}
}

// RemindOfExport makes an event of a reminder, once for each wait and number. An export that has ended
// waits for nobody: it makes none.
func (s *Store) RemindOfExport(ctx context.Context, id uuid.UUID, r billing.Reminder) error {
	err := s.changeExport(ctx, id, func(ctx context.Context, tx scoped, e db.Export) error {
		if billing.Stage(e.Stage).Ended() {
			return nil
		}
		key := fmt.Sprintf("%s/%s/%d", id, r.Since.UTC().Format(time.RFC3339Nano), r.Number)
		return publishOfExport(ctx, tx, events.ExportReminder, key, reminderEvent{exportEventOf(e), r})
	})
	return wrap(err, "remind of export %s", id)
}

// publishExport makes an event of a step of an export, in the step's own transaction,
// once for each export and kind.
func publishExport(ctx context.Context, tx scoped, kind events.Kind, e db.Export) error {
	return publishOfExport(ctx, tx, kind, e.ID.String(), exportEventOf(e))
}

// publishOfExport makes an event, once for each kind and key.
func publishOfExport(ctx context.Context, tx scoped, kind events.Kind, key string, says any) error {
	data, err := json.Marshal(says)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return err
	}
	return publish(ctx, tx, events.Event{ID: id, Key: string(kind) + "/" + key, Kind: kind, OccurredAt: now, Data: data})
}
