package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
)

func TestInstances(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	started := today.Start()
	want := meter.Instance{ID: uuid.Must(uuid.NewV7()), Host: "one", Status: meter.InstanceLive, StartedAt: started, Watermark: started, LostAfter: time.Minute}
	require.NoError(t, f.RegisterInstance(t.Context(), meter.Instance{ID: want.ID, Host: "one", StartedAt: started}))
	got := f.instanceNow(want.ID)
	require.Empty(t, cmp.Diff(want, got, cmpopts.IgnoreFields(meter.Instance{}, "SeenAt")))
	require.WithinDuration(t, time.Now(), got.SeenAt, time.Minute)

	o := f.organization("Acme", "free").ID
	w := &writer{f: f, id: want.ID}
	w.flush(row(o, evaluations, today, 1))
	require.NoError(t, f.StopInstance(t.Context(), want.ID))
	require.Equal(t, meter.InstanceStopped, f.instanceNow(want.ID).Status)

	require.NoError(t, f.RegisterInstance(t.Context(), meter.Instance{ID: want.ID, Host: "two", StartedAt: started.Add(time.Hour)}))
	got = f.instanceNow(want.ID)
	want.Host, want.LastSeq, want.Watermark = "two", 1, started.Add(time.Second)
	require.Empty(t, cmp.Diff(want, got, cmpopts.IgnoreFields(meter.Instance{}, "SeenAt")), "it keeps its sequence and its watermark")

	require.ErrorIs(t, f.StopInstance(t.Context(), uuid.Must(uuid.NewV7())), meter.ErrUnknownInstance)
}

func TestMarkInstanceLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.instance()
	// Its own clock is behind, that of who asks may be ahead: Postgres's alone counts.
	require.NoError(t, f.RegisterInstance(t.Context(), meter.Instance{ID: w.id, Host: "one", StartedAt: time.Now().Add(-24 * time.Hour)}))
	require.WithinDuration(t, time.Now(), f.instanceNow(w.id).SeenAt, time.Minute)

	alive := func() bool {
		alive, err := f.InstanceAlive(t.Context(), w.id)
		require.NoError(t, err)
		return alive
	}
	require.True(t, alive())
	got, marked, err := f.MarkInstanceLost(t.Context(), w.id)
	require.NoError(t, err)
	require.False(t, marked, "it was seen since")
	require.Equal(t, meter.InstanceLive, got.Status)

	f.silence(w.id)
	require.False(t, alive())
	got, marked, err = f.MarkInstanceLost(t.Context(), w.id)
	require.NoError(t, err)
	require.True(t, marked)
	require.Equal(t, meter.InstanceLost, got.Status)

	got, marked, err = f.MarkInstanceLost(t.Context(), w.id)
	require.NoError(t, err)
	require.False(t, marked, "it is lost already")
	require.Equal(t, meter.InstanceLost, got.Status)

	stopped := f.instance()
	require.NoError(t, f.StopInstance(t.Context(), stopped.id))
	got, marked, err = f.MarkInstanceLost(t.Context(), stopped.id)
	require.NoError(t, err)
	require.False(t, marked, "a stopped instance isn't lost")
	require.Equal(t, meter.InstanceStopped, got.Status)

	_, _, err = f.MarkInstanceLost(t.Context(), uuid.Must(uuid.NewV7()))
	require.ErrorIs(t, err, meter.ErrUnknownInstance)
}

// How long an instance may be silent is its own: who asks has other settings, perhaps.
func TestAnInstanceIsAsPatientAsItSays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for patience, lost := range map[time.Duration]bool{25 * time.Hour / 2: false, 0: true, time.Second: true, 24 * time.Hour: false} {
		w := f.instance()
		require.NoError(t, f.RegisterInstance(t.Context(), meter.Instance{ID: w.id, Host: "one", StartedAt: time.Now(), LostAfter: patience}))
		f.exec(`UPDATE instances SET seen_at = seen_at - interval '12 hours' WHERE id = $1`, w.id)
		alive, err := f.InstanceAlive(t.Context(), w.id)
		require.NoError(t, err)
		require.Equal(t, !lost, alive, patience)
		got, marked, err := f.MarkInstanceLost(t.Context(), w.id)
		require.NoError(t, err)
		require.Equal(t, lost, marked, patience)
		if patience > 0 {
			require.Equal(t, patience, got.LostAfter)
		}
	}
}
