package meter_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// TestADigestIsOfWhatABatchCounts holds what two batches that count the same may differ in, and
// that nothing else is left out.
func TestADigestIsOfWhatABatchCounts(t *testing.T) {
	a, b := meter.KeyIdentity("a"), meter.KeyIdentity("b")
	digestOf := func(change func(*meter.Batch)) meter.BatchDigest {
		organization, day := uuid.UUID{15: 1}, calendar.DayOf(noon)
		batch := meter.Batch{ID: meter.BatchID{Instance: uuid.UUID{1}, Seq: 2}, Reports: 5, Watermark: noon, Rows: []meter.Row{
			{Organization: organization, Meter: "m", Aggregation: plans.Sum, Day: day, Plan: "free", PlanVersion: 1, Value: 7, At: noon, Identified: []meter.IdentifiedReport{
				{Identity: a, Fingerprint: meter.FingerprintOf("x"), Quantity: 1, At: noon}, {Identity: b, Quantity: 2, At: noon},
			}},
			{Organization: organization, Meter: "n", Aggregation: plans.Last, Day: day, Value: 3, At: noon},
		}}
		change(&batch)
		return batch.Digest()
	}
	same := digestOf(func(*meter.Batch) {})
	for name, change := range map[string]func(*meter.Batch){
		"the watermark":                  func(b *meter.Batch) { b.Watermark = time.Time{} },
		"the order of rows":              func(b *meter.Batch) { slices.Reverse(b.Rows) },
		"the order of events":            func(b *meter.Batch) { slices.Reverse(b.Rows[0].Identified) },
		"what is leased":                 func(b *meter.Batch) { b.Rows[0].Leased.Day, b.Rows[0].Identified[0].Leased.Day = 7, 1 },
		"a meter that the catalog lacks": func(b *meter.Batch) { b.Rows[0].Aggregation = "" },
		"an overtaken level":             func(b *meter.Batch) { b.Rows[1].IdentifiedOnly = true },
		"what the journal had":           func(b *meter.Batch) { b.Journalled = &b.Reports },
	} {
		require.Equal(t, same, digestOf(change), name)
	}
	for name, change := range map[string]func(*meter.Batch){
		"reports":         func(b *meter.Batch) { b.Reports++ },
		"a value":         func(b *meter.Batch) { b.Rows[0].Value++ },
		"a row":           func(b *meter.Batch) { b.Rows = b.Rows[:1] },
		"a day":           func(b *meter.Batch) { b.Rows[0].Day-- },
		"a plan":          func(b *meter.Batch) { b.Rows[0].Plan = "pro" },
		"a version":       func(b *meter.Batch) { b.Rows[0].PlanVersion++ },
		"an organization": func(b *meter.Batch) { b.Rows[0].Organization = uuid.UUID{15: 9} },
		"an identity":     func(b *meter.Batch) { b.Rows[0].Identified[0].Identity = meter.KeyIdentity("c") },
		"a fingerprint":   func(b *meter.Batch) { b.Rows[0].Identified[0].Fingerprint = meter.FingerprintOf("y") },
		"a quantity":      func(b *meter.Batch) { b.Rows[0].Identified[0].Quantity++ },
		"no sum":          func(b *meter.Batch) { b.Rows[0].IdentifiedOnly = true },
	} {
		require.NotEqual(t, same, digestOf(change), name)
	}
}

// Of reports that the journal could not take, the segment has none: it is the same batch.
func TestASegmentOfABatchThatWasJournalledInPart(t *testing.T) {
	journalled := int64(3)
	segment := meter.Batch{Reports: 3}
	require.True(t, segment.SameAs(meter.BatchDigest{1}, 5, &journalled))
	segment.Reports = 4
	require.False(t, segment.SameAs(meter.BatchDigest{1}, 5, &journalled))
	require.False(t, segment.SameAs(segment.Digest(), 5, nil))
	require.True(t, segment.SameAs(segment.Digest(), 4, nil))
}
