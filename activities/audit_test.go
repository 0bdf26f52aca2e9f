package activities_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// auditLog has entries by day, and digests.
type auditLog struct {
	entries map[calendar.Day][]audit.Entry
	digests []audit.Digest
	today   calendar.Day
	err     error
}

func (l *auditLog) AuditOfDay(_ context.Context, day calendar.Day, after uuid.UUID, _ int) ([]audit.Entry, error) {
	if after != uuid.Nil {
		return nil, nil
	}
	return l.entries[day], l.err
}

func (l *auditLog) UndigestedDays(context.Context) (days []calendar.Day, previous string, err error) {
	next := l.today - 2
	if n := len(l.digests); n > 0 {
		next, previous = l.digests[n-1].Day+1, l.digests[n-1].Digest
	}
	for ; next < l.today; next++ {
		days = append(days, next)
	}
	return days, previous, nil
}

func (l *auditLog) PutDigest(_ context.Context, d audit.Digest) error {
	l.digests = append(l.digests, d)
	return nil
}

func TestDaysOfTheAuditLogAreDigested(t *testing.T) {
	t.Parallel()
	today := calendar.DayOf(now)
	log := &auditLog{today: today, entries: map[calendar.Day][]audit.Entry{today - 1: {{ID: uuid.New(), Kind: "key"}}}}
	r, blobs := &rollups{}, memory(t)
	a := activities.NewRollup(activities.RollupConfig{Store: r, Audit: log, Blobs: blobs})
	e := newEnvironment(t, a)
	keep := func() error {
		_, err := run[billing.Expired](t, e, a.DeleteExpired, activities.DeleteExpiredInput{Before: now})
		return err
	}
	verify := func(names ...string) []audit.Finding {
		checked, found, err := audit.Verify(t.Context(), log, blobs, names, today-1)
		require.NoError(t, err)
		require.Len(t, checked, 2)
		return found
	}
	require.NoError(t, keep())
	require.Len(t, log.digests, 2)
	first, second := log.digests[0], log.digests[1]
	require.Equal(t, []any{"", int64(0), first.Digest, int64(1)}, []any{first.Previous, first.Entries, second.Previous, second.Entries})
	require.Empty(t, verify(first.File(), second.File()))

	// The attempt that wrote the files did not end; the next one writes the same.
	log.digests = nil
	require.NoError(t, keep())
	require.Equal(t, []audit.Digest{first, second}, log.digests)

	// Somebody has changed a day, and its digest in the database: the file stays as it was written.
	log.entries[today-1][0].Kind = "plan"
	log.digests = log.digests[:1]
	require.NoError(t, keep())
	other := log.digests[1]
	require.Contains(t, contents(t, blobs, second.File()), second.Digest)
	require.Contains(t, contents(t, blobs, other.OtherFile()), other.Digest)
	require.Len(t, verify(first.File(), second.File(), other.OtherFile()), 2)

	// What can't be digested holds up nothing of what is deleted, and fails.
	log.digests, log.err = nil, permanentError("no log")
	r.before = r.before.Add(-1)
	require.ErrorContains(t, keep(), "no log")
	require.True(t, now.Equal(r.before))
}
