package metertest

import (
	"context"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// OnPlan is a [meter.Store] and [meter.LeaseStore] that keeps nothing: it knows every
// organization, on the plan that it is named after and without usage, takes every batch, and
// grants all that is asked for.
type OnPlan string

// LoadOrganization implements meter.Store.
func (p OnPlan) LoadOrganization(_ context.Context, id uuid.UUID, _ calendar.Day) (meter.Snapshot, error) {
	return meter.Snapshot{Organization: id, Plan: string(p)}, nil
}

// ApplyBatch implements meter.Store.
func (OnPlan) ApplyBatch(_ context.Context, b meter.Batch) (meter.Applied, error) {
	return meter.Applied{Stored: make([]int64, len(b.Rows))}, nil
}

// AdjustLeases implements meter.LeaseStore.
func (OnPlan) AdjustLeases(_ context.Context, _ meter.BatchID, asks []meter.LeaseAsk) (meter.LeaseAnswers, error) {
	out := make([]meter.LeaseAnswer, len(asks))
	for i, ask := range asks {
		out[i] = meter.LeaseAnswer{Issued: ask.Issued, Max: ask.Max}
	}
	return meter.LeaseAnswers{Answers: out}, nil
}
