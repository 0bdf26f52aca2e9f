package workflows_test

import (
	"context"
	"encoding/json"
	"flag"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// tarpit is how many events TestServerATarpitDelaysNoClose has for receivers that hang:
//
//	make tarpit
var tarpit = flag.Int("tarpit", 200, "how many events go to receivers that hang")

// A tenant whose receivers hang, with any number of events for them, delays neither a close nor another
// tenant's deliveries.
func TestServerATarpitDelaysNoClose(t *testing.T) {
	t.Parallel()
	s := newSystemWithSink(t)
	let := make(chan struct{})
	defer close(let)
	var hanging, most atomic.Int64
	pit, quick := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	s.store.hang = func(ctx context.Context, to webhooks.Endpoint) {
		if to.ID != pit {
			return
		}
		for now := hanging.Add(1); now > most.Load(); now = hanging.Load() {
			most.Store(now)
		}
		defer hanging.Add(-1)
		select {
		case <-let:
		case <-ctx.Done():
		}
	}
	s.answer(200)
	slow, other := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	began := time.Now()
	var starting sync.WaitGroup
	left := make(chan int, *tarpit)
	for i := range *tarpit {
		left <- i
	}
	close(left)
	for range 16 {
		starting.Go(func() {
			for i := range left {
				e := events.Event{ID: uuid.Must(uuid.NewV7()), Key: "tarpit-" + strconv.Itoa(i), Kind: events.ExportIssued, Organization: slow, OccurredAt: time.Now().UTC(), Data: json.RawMessage(`{}`)}
				in := deliveryInput(e.ID, pit)
				in.Organization = slow
				if _, err := starter.StartDeliverEvent(t.Context(), s.client, in); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	starting.Wait()
	eventually(t, "receivers hang", func() bool { return hanging.Load() > 0 })
	t.Logf("%d deliveries are started in %s", *tarpit, time.Since(began).Round(time.Millisecond))

	began = time.Now()
	s.store.endpoints = []uuid.UUID{quick}
	s.store.owner = other
	_, err := starter.EnsureDispatchEvents(t.Context(), s.client, workflows.DispatchEventsInput{
		Epoch: activities.Duration(time.Second), Poll: activities.Duration(20 * time.Millisecond),
	})
	require.NoError(t, err)
	s.happen(t, "another tenant's")
	eventually(t, "another tenant's event is delivered", func() bool {
		for _, a := range s.store.recorded() {
			if a.Endpoint == quick && a.State == webhooks.Delivered {
				return true
			}
		}
		return false
	})
	delivered := time.Since(began)

	began = time.Now()
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	closed := time.Since(began)
	t.Logf("another tenant's event took %s, the close %s; at most %d receivers hung at a time", delivered, closed, most.Load())
	eventually(t, "receivers hang still", func() bool { return hanging.Load() > 0 })
	require.LessOrEqual(t, most.Load(), int64(someAttempts/4))
}
