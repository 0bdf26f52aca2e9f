package pgstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// model is what the store must have: each batch counted once, in any order.
type model struct {
	records map[recordKey]billing.UsageRecord
}

type recordKey struct {
	organization uuid.UUID
	meter        string
	day          calendar.Day
}

// apply folds the rows of a batch, and returns what is stored after each: of a sum
// without the batch's later rows of the day.
func (m *model) apply(rows []meter.Row) []int64 {
	places := make([]int, len(rows))
	for i := range places {
		places[i] = i
	}
	slices.SortFunc(places, func(i, j int) int { return meter.CompareRows(rows[i], rows[j]) })
	sums := map[int]int64{}
	for _, place := range places {
		r := rows[place]
		k := recordKey{r.Organization, r.Meter, r.Day}
		known, there := m.records[k]
		record := billing.UsageRecord{Organization: r.Organization, Meter: r.Meter, Day: r.Day, Value: r.Value, LastAt: r.At}
		if there {
			record.Value = known.Value
			if r.Aggregation != plans.Last || !r.At.Before(known.LastAt) {
				record.Value = r.Aggregation.Fold(known.Value, r.Value)
			}
			if known.LastAt.After(r.At) {
				record.LastAt = known.LastAt
			}
		}
		m.records[k] = record
		if r.Aggregation == plans.Sum {
			sums[place] = record.Value
		}
	}
	stored := m.stored(rows)
	for place, value := range sums {
		stored[place] = value
	}
	return stored
}

func (m *model) stored(rows []meter.Row) []int64 {
	out := make([]int64, len(rows))
	for i, r := range rows {
		out[i] = m.records[recordKey{r.Organization, r.Meter, r.Day}].Value
	}
	return out
}

// Batches of several instances, with duplicates of any earlier batch, empty batches,
// gaps and rollups between them, leave what the model says.
func TestBatchesMatchTheModel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	meters := []string{evaluations, entities, storage}
	rapid.Check(t, func(rt *rapid.T) {
		// Organizations of its own keep the runs apart.
		organizations := f.tenants(3)
		m := &model{records: map[recordKey]billing.UsageRecord{}}
		writers := []*writer{f.instance(), f.instance()}
		var applied []meter.Batch

		type rowKey struct {
			recordKey
			version int
		}
		drawRows := rapid.Custom(func(rt *rapid.T) []meter.Row {
			keys := rapid.SliceOfNDistinct(rapid.Custom(func(rt *rapid.T) rowKey {
				return rowKey{recordKey{
					rapid.SampledFrom(organizations).Draw(rt, "organization"),
					rapid.SampledFrom(meters).Draw(rt, "meter"),
					today - calendar.Day(rapid.IntRange(0, 2).Draw(rt, "days ago")),
				}, rapid.IntRange(0, 2).Draw(rt, "version")}
			}), 1, 12, rapid.ID[rowKey]).Draw(rt, "keys")
			rows := make([]meter.Row, len(keys))
			for i, k := range keys {
				// Few hours, so that levels have the same time.
				at := k.day.Start().Add(time.Duration(rapid.IntRange(0, 23).Draw(rt, "hour")) * time.Hour)
				value := rapid.Int64Range(0, plans.MaxQuantity).Draw(rt, "value")
				rows[i] = under(rowAt(k.organization, k.meter, k.day, value, at), "pro", k.version)
			}
			return rows
		})

		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			w := rapid.SampledFrom(writers).Draw(rt, "instance")
			switch rapid.SampledFrom([]string{"batch", "batch", "batch", "duplicate", "watermark", "empty", "gap", "rollup"}).Draw(rt, "step") {
			case "batch":
				batch := w.batch(drawRows.Draw(rt, "rows")...)
				got, err := f.ApplyBatch(t.Context(), batch)
				require.NoError(rt, err)
				require.Equal(rt, meter.Applied{Stored: m.apply(batch.Rows)}, got)
				applied = append(applied, batch)
			case "duplicate":
				if len(applied) == 0 {
					continue
				}
				batch := rapid.SampledFrom(applied).Draw(rt, "duplicate")
				got, err := f.ApplyBatch(t.Context(), batch)
				require.NoError(rt, err)
				require.True(rt, got.Duplicate)
				require.ElementsMatch(rt, m.stored(batch.Rows), got.Stored)
			case "watermark":
				_, err := f.ApplyBatch(t.Context(), meter.Batch{
					ID: meter.BatchID{Instance: w.id, Seq: w.seq}, WatermarkOnly: true, Watermark: today.Start(),
				})
				require.NoError(rt, err)
			case "empty":
				batch := w.batch()
				got, err := f.ApplyBatch(t.Context(), batch)
				require.NoError(rt, err)
				require.Equal(rt, meter.Applied{}, got)
				applied = append(applied, batch)
			case "gap":
				_, err := f.ApplyBatch(t.Context(), meter.Batch{ID: meter.BatchID{Instance: w.id, Seq: w.seq + 2}, Rows: drawRows.Draw(rt, "rows")})
				require.ErrorIs(rt, err, meter.ErrSequenceGap)
			case "rollup":
				rollup, err := f.RollUpDay(t.Context(), today-1)
				require.NoError(rt, err)
				require.Zero(rt, rollup.VarianceCount)
			}
		}
		compareWithModel(rt, f, m, organizations)
	})
}

func compareWithModel(rt *rapid.T, f *fixture, m *model, organizations []uuid.UUID) {
	got := map[recordKey]billing.UsageRecord{}
	for _, o := range organizations {
		records, err := f.UsageRange(f.t.Context(), o, today-2, today, "")
		require.NoError(rt, err)
		for _, r := range records {
			got[recordKey{r.Organization, r.Meter, r.Day}] = r
		}
	}
	if diff := cmp.Diff(m.records, got); diff != "" {
		rt.Fatalf("the records differ from the model (-want +got):\n%s", diff)
	}
}
