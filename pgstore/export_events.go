package pgstore

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// exportEvent is what webhooks say of an export.
type exportEvent struct {
	Export   uuid.UUID       `json:"export_id"`
	Period   calendar.Period `json:"period"`
	Revision int32           `json:"revision"`
}

// publishExport makes an event of a step of an export, in the step's own transaction,
// once for each export and kind.
func publishExport(ctx context.Context, tx scoped, kind events.Kind, e db.Export) error {
	data, err := json.Marshal(exportEvent{Export: e.ID, Period: calendar.PeriodOf(e.Period), Revision: e.Revision})
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
	return publish(ctx, tx, events.Event{ID: id, Key: string(kind) + "/" + e.ID.String(), Kind: kind, OccurredAt: now, Data: data})
}
