package alerts

import (
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
)

// Replayed is a store into which a journal is replayed. It notes whose usage that was: who has journalled it
// may have died before it told what it had crossed, and nobody else may see that usage.
type Replayed struct {
	journal.ReplayStore

	mu            sync.Mutex
	organizations map[uuid.UUID]struct{}
}

// NewReplayed returns a store that notes what is replayed into another one.
func NewReplayed(store journal.ReplayStore) *Replayed {
	return &Replayed{ReplayStore: store, organizations: map[uuid.UUID]struct{}{}}
}

// ApplyBatch implements [journal.ReplayStore].
func (r *Replayed) ApplyBatch(ctx context.Context, batch meter.Batch) (meter.Applied, error) {
	applied, err := r.ReplayStore.ApplyBatch(ctx, batch)
	if err != nil {
		return applied, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range batch.Rows {
		r.organizations[batch.Rows[i].Organization] = struct{}{}
	}
	return applied, nil
}

// Take returns the organizations of which usage was replayed since the last call, by their IDs.
func (r *Replayed) Take() []uuid.UUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]uuid.UUID, 0, len(r.organizations))
	for id := range r.organizations {
		ids = append(ids, id)
	}
	clear(r.organizations)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return ids
}
