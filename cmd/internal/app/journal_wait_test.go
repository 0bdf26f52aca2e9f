package app

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// A quick restart waits until the process before has let go of the journal's folder, and no longer than it may.
func TestStartWaitsForTheJournal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		wait time.Duration
		fits bool
	}{
		"not at all":       {0, false},
		"too short a time": {200 * time.Millisecond, false},
		"long enough":      {time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "journal")
			before, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7())})
			require.NoError(t, err)
			if tt.fits {
				time.AfterFunc(300*time.Millisecond, func() { _ = before.Close() })
			} else {
				defer func() { require.NoError(t, before.Close()) }()
			}
			i := &instance{
				id: uuid.Must(uuid.NewV7()), logger: slog.New(slog.DiscardHandler),
				config: APIConfig{JournalDir: dir, JournalWait: tt.wait, Durability: "process", JournalKeepMiB: 1},
			}
			began := time.Now()
			opened, err := i.takeJournal(t.Context())
			if !tt.fits {
				require.ErrorIs(t, err, journal.ErrLocked)
				require.Less(t, time.Since(began), tt.wait+20*time.Second)
				return
			}
			require.NoError(t, err)
			require.NoError(t, opened.Close())
		})
	}
}
