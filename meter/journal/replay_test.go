package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/plans"
)

// replayStore applies batches once, in sequence.
type replayStore struct {
	last    map[uuid.UUID]int64
	batches []meter.Batch
	stopped []uuid.UUID
	// registered and missing are what it was told of.
	registered []meter.Instance
	missing    []meter.MissingBatches
	// alive is an instance that is.
	alive uuid.UUID
	// fail makes the n-th call of ApplyBatch fail after it has been carried out.
	fail int
}

var errLostAnswer = errors.New("the answer was lost")

func (s *replayStore) ApplyBatch(_ context.Context, b meter.Batch) (meter.Applied, error) {
	last, ok := s.last[b.ID.Instance]
	switch {
	case !ok:
		return meter.Applied{}, meter.ErrUnknownInstance
	case b.ID.Seq <= last:
		return meter.Applied{Duplicate: true}, nil
	case b.ID.Seq != last+1:
		return meter.Applied{}, meter.ErrSequenceGap
	}
	s.last[b.ID.Instance] = b.ID.Seq
	s.batches = append(s.batches, b)
	if s.fail--; s.fail == 0 {
		return meter.Applied{}, errLostAnswer
	}
	return meter.Applied{}, nil
}

func (s *replayStore) InstanceAlive(_ context.Context, id uuid.UUID) (bool, error) {
	return id == s.alive, nil
}

func (s *replayStore) LastSeq(_ context.Context, id uuid.UUID) (int64, error) {
	last, ok := s.last[id]
	if !ok {
		return 0, meter.ErrUnknownInstance
	}
	return last, nil
}

func (s *replayStore) RegisterInstance(_ context.Context, i meter.Instance) error {
	s.last[i.ID] += 0
	s.registered = append(s.registered, i)
	return nil
}

func (s *replayStore) SkipBatches(_ context.Context, m meter.MissingBatches) error {
	if s.last[m.Instance] != m.First-1 {
		return meter.ErrSequenceGap
	}
	s.last[m.Instance] = m.Last
	s.missing = append(s.missing, m)
	return nil
}

func (s *replayStore) StopInstance(_ context.Context, id uuid.UUID) error {
	s.stopped = append(s.stopped, id)
	return nil
}

func (s *replayStore) evaluations() (total int64) {
	for _, b := range s.batches {
		for _, row := range b.Rows {
			total += row.Value
			for _, e := range row.Identified {
				total += e.Quantity
			}
		}
	}
	return total
}

// leave makes what a process leaves that ended with so many segments, each with one
// report of 1, 2, 4, …
func leave(t *testing.T, dir string, segments int) uuid.UUID {
	t.Helper()
	instance := uuid.Must(uuid.NewV7())
	j, err := journal.Open(journal.Config{Dir: dir, Instance: instance})
	require.NoError(t, err)
	for i := range segments {
		_, err := j.Append(journal.Record{Organization: uuid.Max, Meter: "evaluations", Day: 20_000, Quantity: 1 << i, Lease: calendar.WindowDay})
		require.NoError(t, err)
		if i < segments-1 {
			_, err = j.Rotate()
			require.NoError(t, err)
		}
	}
	require.NoError(t, j.Close())
	return instance
}

// replay is what the next process does.
func replay(t *testing.T, dir string, store *replayStore) []journal.Replayed {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7())})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	return j.Replay(t.Context(), store, plans.Default())
}

func TestReplayWritesEachSegmentAsItsBatch(t *testing.T) {
	dir := t.TempDir()
	first, second := leave(t, dir, 3), leave(t, dir, 1)
	store := &replayStore{last: map[uuid.UUID]int64{first: 1, second: 0}}
	got := replay(t, dir, store)
	require.Len(t, got, 2)
	require.Equal(t, journal.Replayed{Instance: first, Segments: 3, Applied: 2, Records: 2}, got[0], "the first segment was written before")
	require.Equal(t, journal.Replayed{Instance: second, Segments: 1, Applied: 1, Records: 1}, got[1])
	require.Equal(t, []uuid.UUID{first, second}, store.stopped)
	require.EqualValues(t, 2+4+1, store.evaluations())
	one := int64(1)
	require.Equal(t, meter.Batch{
		ID: meter.BatchID{Instance: first, Seq: 2}, Reports: 1, Journalled: &one,
		Rows: []meter.Row{{
			Organization: uuid.Max, Meter: "evaluations", Aggregation: plans.Sum, Day: 20_000, Value: 2,
			At: store.batches[0].Rows[0].At, Leased: meter.Leased{Day: 2},
		}},
	}, store.batches[0])

	again := replay(t, dir, store)
	for _, r := range again {
		require.NoError(t, r.Err)
		require.Zero(t, r.Records, "what the process between left is empty")
	}
	require.EqualValues(t, 7, store.evaluations())
}

// A replay that is cut off anywhere goes on at the next start, and counts once.
func TestReplayCutOffCountsOnce(t *testing.T) {
	for fail := 1; fail <= 4; fail++ {
		dir := t.TempDir()
		instance := leave(t, dir, 4)
		store := &replayStore{last: map[uuid.UUID]int64{instance: 0}, fail: fail}
		got := replay(t, dir, store)
		require.ErrorIs(t, got[0].Err, errLostAnswer)
		require.Empty(t, store.stopped, "what it leased stays its own until all is written")
		got = replay(t, dir, store)
		require.NoError(t, got[0].Err)
		require.Equal(t, instance, got[0].Instance)
		require.Equal(t, []uuid.UUID{instance}, store.stopped)
		require.EqualValues(t, 15, store.evaluations())
	}
}

func TestReplayGoesOnOverWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	instance := leave(t, dir, 4)
	found := segments(t, dir)
	require.NoError(t, os.Remove(found[1].Path))
	require.NoError(t, os.Remove(found[2].Path))
	store := &replayStore{last: map[uuid.UUID]int64{instance: 0}}
	got := replay(t, dir, store)
	require.Equal(t, journal.Replayed{Instance: instance, Segments: 2, Applied: 2, Records: 2, Missing: 2}, got[0])
	require.EqualValues(t, 1+8, store.evaluations())
	require.Equal(t, []meter.MissingBatches{{Instance: instance, First: 2, Last: 3}}, store.missing, "it is recorded, and the sequence goes on")
}

func TestReplayStopsAtDamageAndKeepsTheFile(t *testing.T) {
	dir := t.TempDir()
	damaged, whole := leave(t, dir, 3), leave(t, dir, 1)
	path := segments(t, dir)[1].Path
	// A flipped bit in a record that an intact one follows.
	image := journal.Image(journal.SegmentID{Instance: damaged, Seq: 2}, records(1, 3))
	image[journal.HeaderSize+30] ^= 1
	require.NoError(t, os.WriteFile(path, image, 0o600))

	store := &replayStore{last: map[uuid.UUID]int64{damaged: 0, whole: 0}}
	got := replay(t, dir, store)
	require.ErrorIs(t, got[0].Err, journal.ErrCorrupt)
	require.ErrorContains(t, got[0].Err, path)
	require.NoError(t, got[1].Err, "others go on")
	require.Equal(t, []uuid.UUID{whole}, store.stopped)
	require.FileExists(t, path)
	require.EqualValues(t, 1+1, store.evaluations(), "nothing of the damaged segment, and nothing after it")

	// Somebody moves the file away: the rest goes on.
	require.NoError(t, os.Rename(path, path+".damaged"))
	got = replay(t, dir, store)
	require.NoError(t, got[0].Err)
	require.EqualValues(t, 1, got[0].Missing)
	require.EqualValues(t, 1+1+4, store.evaluations())
}

func TestReplayReportsATornTail(t *testing.T) {
	dir := t.TempDir()
	instance := leave(t, dir, 1)
	path := segments(t, dir)[0].Path
	image := journal.Image(journal.SegmentID{Instance: instance, Seq: 1}, records(1, 4))
	require.NoError(t, os.WriteFile(path, image[:len(image)-3], 0o600))
	store := &replayStore{last: map[uuid.UUID]int64{instance: 0}}
	got := replay(t, dir, store)
	require.NoError(t, got[0].Err)
	require.EqualValues(t, 2, got[0].Records)
	require.EqualValues(t, journal.Length(record(3))-3, got[0].Cut)
}

// A process that ended before it was registered has left nothing that counts. One whose
// instance is unknown but that has records was registered, and the store has lost it.
func TestReplayOfUnknownInstances(t *testing.T) {
	dir := t.TempDir()
	id := journal.SegmentID{Instance: uuid.Must(uuid.NewV7()), Seq: 1}
	name := fmt.Sprintf("%s-%020d.journal", id.Instance, id.Seq)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), journal.Image(id, nil), 0o600))
	unknown := leave(t, dir, 2)
	require.NoError(t, os.Remove(segments(t, dir)[1].Path))
	store := &replayStore{last: map[uuid.UUID]int64{}}
	got := replay(t, dir, store)
	require.NoError(t, got[0].Err)
	require.Equal(t, 1, got[0].Segments)
	require.Equal(t, journal.Replayed{Instance: unknown, Segments: 1, Applied: 1, Records: 1, Missing: 1}, got[1])
	require.Len(t, store.registered, 1)
	require.Equal(t, unknown, store.registered[0].ID)
	require.WithinDuration(t, time.Now(), store.registered[0].StartedAt, time.Minute, "its identity says when it started")
	require.Equal(t, []meter.MissingBatches{{Instance: unknown, First: 1, Last: 1}}, store.missing)
	require.EqualValues(t, 2, store.evaluations())
	require.Equal(t, []uuid.UUID{unknown}, store.stopped)
}

// What was written is kept for a while, and written again where the store has lost it.
func TestReplayWritesAgainWhatTheStoreHasLost(t *testing.T) {
	dir, now := t.TempDir(), time.Now().UTC()
	clock := func() time.Time { return now }
	instance := leave(t, dir, 3)
	keep := func(store *replayStore) []journal.Replayed {
		j, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7()), Keep: time.Hour, Now: clock})
		require.NoError(t, err)
		defer func() { require.NoError(t, j.Close()) }()
		got := j.Replay(t.Context(), store, plans.Default())
		return slices.DeleteFunc(got, func(r journal.Replayed) bool { return r.Instance != instance })
	}
	store := &replayStore{last: map[uuid.UUID]int64{instance: 0}}
	require.Equal(t, []journal.Replayed{{Instance: instance, Segments: 3, Applied: 3, Records: 3}}, keep(store))
	require.Len(t, segments(t, dir), 3, "they are kept")
	require.Empty(t, keep(store), "the store has all")
	require.Len(t, store.stopped, 1)

	store.last[instance], store.batches = 1, store.batches[:1]
	require.Equal(t, []journal.Replayed{{Instance: instance, Segments: 3, Applied: 2, Again: 2, Records: 2}}, keep(store))
	require.EqualValues(t, 7, store.evaluations())
	delete(store.last, instance)
	store.batches = nil
	require.Equal(t, []journal.Replayed{{Instance: instance, Segments: 3, Applied: 3, Again: 3, Records: 3}}, keep(store))
	require.EqualValues(t, 7, store.evaluations())
}

// Kept segments go once they are too old, or take too much room: the oldest first.
func TestWrittenSegmentsAreKeptForAWhile(t *testing.T) {
	dir, now := t.TempDir(), time.Now().UTC().Truncate(time.Second)
	instance := uuid.Must(uuid.NewV7())
	j, err := journal.Open(journal.Config{Dir: dir, Instance: instance, Keep: time.Hour, KeepBytes: 400, Now: func() time.Time { return now }})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	kept := func() (seqs []int64) {
		for _, s := range segments(t, dir) {
			if s.Written {
				seqs = append(seqs, s.ID.Seq)
			}
		}
		return seqs
	}
	write := func() {
		_, err := j.Append(record(1))
		require.NoError(t, err)
		seq, err := j.Rotate()
		require.NoError(t, err)
		require.NoError(t, j.Written(journal.SegmentID{Instance: instance, Seq: seq}))
	}
	write()
	now = now.Add(30 * time.Minute)
	write()
	require.Equal(t, []int64{1, 2}, kept())
	records, ok := j.Kept(journal.SegmentID{Instance: instance, Seq: 1})
	require.True(t, ok)
	for r, err := range records {
		require.NoError(t, err)
		require.Equal(t, record(1), r)
	}
	now = now.Add(31 * time.Minute)
	write()
	require.Equal(t, []int64{2, 3}, kept(), "an hour is over for the first")
	_, ok = j.Kept(journal.SegmentID{Instance: instance, Seq: 1})
	require.False(t, ok)
	for range 6 {
		write()
	}
	require.Less(t, len(kept()), 5, "400 bytes hold no more")
	require.EqualValues(t, 9, kept()[len(kept())-1])
}

// TestACopyOfALiveJournalIsNotReplayed holds that a copy waits until its instance is lost, also for
// the process after, while the folder itself is replayed at once.
func TestACopyOfALiveJournalIsNotReplayed(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	instance := leave(t, dir, 2)
	require.NoError(t, os.CopyFS(copied+"/journal", os.DirFS(dir)))
	copied += "/journal"
	store := &replayStore{last: map[uuid.UUID]int64{instance: 0}, alive: instance}
	open := func(dir string) *journal.Journal {
		j, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7()), Fenced: true})
		require.NoError(t, err)
		return j
	}
	for range 2 {
		j := open(copied)
		for range 2 {
			got := j.Replay(t.Context(), store, plans.Default())
			require.Len(t, got, 1)
			require.ErrorIs(t, got[0].Err, journal.ErrAlive)
		}
		require.NoError(t, j.Close())
	}
	require.Empty(t, store.batches)
	require.Empty(t, store.stopped, "its leases are its own")
	require.Len(t, segments(t, copied), 2)

	j := open(copied)
	require.ErrorIs(t, j.Replay(t.Context(), store, plans.Default())[0].Err, journal.ErrAlive)
	store.alive = uuid.Nil
	got := j.ReplayPostponed(t.Context(), store, plans.Default())
	require.Equal(t, journal.Replayed{Instance: instance, Segments: 2, Applied: 2, Records: 2}, got[0])
	require.Empty(t, j.ReplayPostponed(t.Context(), store, plans.Default()))
	require.NoError(t, j.Close())

	store.alive = instance
	j = open(dir)
	require.NoError(t, j.Replay(t.Context(), store, plans.Default())[0].Err, "who had the folder has ended")
	require.NoError(t, j.Close())
}

// A process that keeps nothing leaves nothing of what one before it had kept, once the store has
// it.
func TestKeptSegmentsGoWithTheSetting(t *testing.T) {
	dir := t.TempDir()
	instance := leave(t, dir, 3)
	store := &replayStore{last: map[uuid.UUID]int64{instance: 0}}
	j, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7()), Keep: time.Hour, Now: time.Now})
	require.NoError(t, err)
	require.NoError(t, j.Replay(t.Context(), store, plans.Default())[0].Err)
	require.NoError(t, j.Close())
	require.Len(t, segments(t, dir), 3)

	store.last[instance], store.batches, store.fail = 1, store.batches[:1], 1
	require.ErrorIs(t, replay(t, dir, store)[0].Err, errLostAnswer)
	require.Len(t, segments(t, dir), 3, "what may have to be written again stays")
	replay(t, dir, store)
	require.EqualValues(t, 7, store.evaluations(), "it is written again first")
	for _, s := range segments(t, dir) {
		require.NotEqual(t, instance, s.ID.Instance)
	}
}
