package api

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
)

func (s *fakeStore) Quarantine(
	ctx context.Context, state meter.QuarantineState, organization, after uuid.UUID, limit int,
) (found []meter.Quarantined, err error) {
	err = s.call(ctx, func() error {
		for _, q := range s.quarantine {
			if bytes.Compare(q.ID[:], after[:]) > 0 && (state == "" || q.State == state) &&
				(organization == uuid.Nil || q.Organization == organization) && len(found) < limit {
				found = append(found, q)
			}
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) Quarantined(ctx context.Context, id uuid.UUID) (found meter.Quarantined, err error) {
	err = s.call(ctx, func() error {
		i := slices.IndexFunc(s.quarantine, func(q meter.Quarantined) bool { return q.ID == id })
		if i < 0 {
			return meter.ErrQuarantineNotFound
		}
		found = s.quarantine[i]
		return nil
	})
	return found, err
}

func (s *fakeStore) ApplyQuarantined(ctx context.Context, id uuid.UUID, by, note string) (meter.Quarantined, error) {
	return s.decideQuarantined(ctx, id, meter.QuarantineApplied, by, note)
}

func (s *fakeStore) DropQuarantined(ctx context.Context, id uuid.UUID, by, note string) (meter.Quarantined, error) {
	return s.decideQuarantined(ctx, id, meter.QuarantineDropped, by, note)
}

func (s *fakeStore) decideQuarantined(
	ctx context.Context, id uuid.UUID, state meter.QuarantineState, by, note string,
) (decided meter.Quarantined, err error) {
	err = s.call(ctx, func() error {
		i := slices.IndexFunc(s.quarantine, func(q meter.Quarantined) bool { return q.ID == id })
		if i < 0 {
			return meter.ErrQuarantineNotFound
		}
		q := &s.quarantine[i]
		switch {
		case q.State == meter.QuarantineWaiting && state == meter.QuarantineApplied && q.Meter == "gone":
			return fmt.Errorf("%w: the meter gone is not in the published catalog", meter.ErrQuarantineRefused)
		case q.State == meter.QuarantineWaiting:
			q.State, q.DecidedBy, q.DecidedAt, q.Note = state, by, noon, note
		case q.State != state:
			return meter.ErrQuarantineDecided
		}
		decided = *q
		return nil
	})
	return decided, err
}
