package audit_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/calendar"
)

// The form of a line and of a digest is for good: digests that were written must be found again.
func TestDigestOfADay(t *testing.T) {
	t.Parallel()
	key := uuid.MustParse("01970000-0000-7000-8000-000000000001")
	at := time.Date(2026, 11, 28, 11, 0, 0, 123456000, time.FixedZone("", 3600))
	e := audit.Entry{
		ID: key, At: at, Kind: "key", Action: audit.Changed, Subject: "k", ActorID: &key, Actor: "<root>",
		Before: json.RawMessage(`{"a": 1.50}`), After: json.RawMessage(`{"a": 2}`),
	}
	line, err := e.Line()
	require.NoError(t, err)
	require.Equal(t, `{"id":"01970000-0000-7000-8000-000000000001","at":"2026-11-28T10:00:00.123456Z","kind":"key","action":"changed","subject":"k",`+
		`"organization_id":null,"actor_id":"01970000-0000-7000-8000-000000000001","actor":"\u003croot\u003e","owner":"","role":"","address":"",`+
		`"request_id":"","login":"","before":{"a":1.50},"after":{"a":2}}`, string(line))

	day := calendar.DayOf(at)
	first := audit.NewDigester(day, "")
	require.NoError(t, first.Add(e))
	d := first.Digest()
	require.Equal(t, "audit/2026-11-28.json", d.File())
	require.EqualValues(t, 1, d.Entries)
	require.Equal(t, "ccf6d354aa9a6fd633abbe3dea7313172c0ee77de1311b7e027d0937e2c354a9", d.Digest)
	require.NotEqual(t, d.Digest, audit.NewDigester(day, "").Digest().Digest)
	require.NotEqual(t, audit.NewDigester(day, "").Digest().Digest, audit.NewDigester(day, d.Digest).Digest().Digest, "each day's is over the one before")

	content, err := d.Encode()
	require.NoError(t, err)
	read, err := audit.Decode(content)
	require.NoError(t, err)
	require.Equal(t, d, read)
	for _, broken := range []string{"", "{}", `{"day":"2026-11-28","digest":"x"}`} {
		_, err := audit.Decode([]byte(broken))
		require.Error(t, err, broken)
	}
}
