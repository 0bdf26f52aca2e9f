package meter_test

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

func Example() {
	store := metertest.NewStore()
	id := store.Add("free")
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: store})
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

	organization, err := m.Organization(context.Background(), id, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	simulations, _ := m.Index("simulations")

	decision, reservation, err := organization.Admit(context.Background(), simulations, 50, now)
	fmt.Println("first 50:", decision.Allowed, err)
	decision, _, err = organization.Admit(context.Background(), simulations, 1, now)
	fmt.Println("one more:", decision.Allowed, decision.Current, "of", decision.Max, err)
	reservation.Commit()

	flusher := meter.NewFlusher(meter.FlusherConfig{
		Meter: m, Store: store, Instance: uuid.New(), Now: func() time.Time { return now },
	})
	summary, err := flusher.Flush(context.Background())
	fmt.Println("written:", summary.Rows, err)
	// Output:
	// first 50: true <nil>
	// one more: false 50 of 50 <nil>
	// written: 1 <nil>
}
