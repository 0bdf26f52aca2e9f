package pgstore_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
)

// A batch of more rows, and of more identified reports, than one statement takes.
func TestBatchOfManyStatements(t *testing.T) {
	t.Parallel()
	const size = 2*chunkRows + 401
	f := newFixture(t)
	w := f.instance()
	rows := make([]meter.Row, size)
	for i, id := range f.tenants(size) {
		// In the opposite order: the rows are sorted across the statements.
		rows[size-1-i] = row(id, evaluations, today, int64(i))
	}
	batch := w.batch(rows...)
	applied := f.apply(batch)
	for i, value := range applied.Stored {
		require.EqualValues(t, size-1-i, value)
	}
	again := f.apply(batch)
	require.True(t, again.Duplicate)
	require.Equal(t, applied.Stored, again.Stored)
	require.EqualValues(t, size, f.count(`SELECT count(*) FROM usage_batch_rows`))
}

func TestBatchOfManyIdentifiedReports(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	identified := make([]meter.IdentifiedReport, 2*chunkRows+401)
	for i := range identified {
		identified[i] = keyed(fmt.Sprint(i%(2*chunkRows+400)), 1, 1)
	}
	batch := w.batch(identifiedRow(o, evaluations, identified...))
	applied := f.apply(batch)
	require.Equal(t, meter.Applied{Stored: []int64{2*chunkRows + 400}, Repeated: []meter.BatchPlace{{Report: 2*chunkRows + 400}}}, applied)
	again := f.apply(batch)
	require.Equal(t, applied.Repeated, again.Repeated)
}
