package webhooks_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/webhooks"
)

var now = time.Date(2026, 10, 17, 12, 0, 0, 0, time.UTC)

func TestValidateURL(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		url             string
		public, private bool
	}{
		{"https://example.com/hooks?a=1", true, true},
		{"https://example.com:8443/hooks", true, true},
		{"https://xn--bcher-kva.example/", true, true},
		{"http://example.com/", false, true},
		{"http://localhost:8080/", false, true},
		{"https://localhost/", false, true},
		{"https://intranet/", false, true},
		{"https://metadata.google.internal/", false, true},
		{"https://api.localhost/", false, true},
		{"https://127.0.0.1/", false, true},
		{"https://8.8.8.8/", false, true},
		{"https://[::1]/", false, true},
		{"https://127.1/", false, true},
		{"https://0x7f.0.0.1/", false, true},
		{"https://2130706433/", false, true},
		{"https://example.com./", true, true},
		{"ftp://example.com/", false, false},
		{"//example.com/", false, false},
		{"https:///hooks", false, false},
		{"https://:443/", false, false},
		{"https://user:secret@example.com/", false, false},
		{"https://example.com/#part", false, false},
		{"https://exa mple.com/", false, false},
		{"", false, false},
		{"https://example.com/" + strings.Repeat("x", webhooks.MaxURL), false, false},
	} {
		for private, valid := range map[bool]bool{false: tc.public, true: tc.private} {
			err := webhooks.ValidateURL(tc.url, private)
			if valid {
				require.NoError(t, err, "%s, private %t", tc.url, private)
				continue
			}
			var broken *fault.FieldError
			require.ErrorAs(t, err, &broken, "%s, private %t", tc.url, private)
			require.Equal(t, "url", broken.Field)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := webhooks.Endpoint{URL: "https://example.com/", Kinds: events.Kinds(), Description: "Ærø"}
	require.NoError(t, good.Validate(false))
	for _, tc := range []struct {
		field string
		spoil func(*webhooks.Endpoint)
	}{
		{"url", func(e *webhooks.Endpoint) { e.URL = "http://example.com" }},
		{"kinds", func(e *webhooks.Endpoint) { e.Kinds = []events.Kind{"export.lost"} }},
		{"kinds", func(e *webhooks.Endpoint) { e.Kinds = []events.Kind{events.ExportIssued, events.ExportIssued} }},
		{"description", func(e *webhooks.Endpoint) { e.Description = "two\nlines" }},
		{"description", func(e *webhooks.Endpoint) { e.Description = strings.Repeat("x", webhooks.MaxDescription+1) }},
	} {
		e := good
		tc.spoil(&e)
		var broken *fault.FieldError
		require.ErrorAs(t, e.Validate(false), &broken)
		require.Equal(t, tc.field, broken.Field)
	}
}

func TestWants(t *testing.T) {
	t.Parallel()
	mine, other := uuid.MustParse("0199a000-0000-7000-8000-000000000001"), uuid.MustParse("0199a000-0000-7000-8000-000000000002")
	event := func(organization uuid.UUID) events.Event {
		return events.Event{Kind: events.UsageThresholdReached, Organization: organization}
	}
	for _, tc := range []struct {
		name     string
		endpoint webhooks.Endpoint
		event    events.Event
		wants    bool
	}{
		{"its own", webhooks.Endpoint{Organization: mine}, event(mine), true},
		{"another's", webhooks.Endpoint{Organization: mine}, event(other), false},
		{"the platform's", webhooks.Endpoint{Organization: mine}, event(uuid.Nil), false},
		{"every event", webhooks.Endpoint{}, event(other), true},
		{"the platform's own", webhooks.Endpoint{}, event(uuid.Nil), true},
		{"a kind", webhooks.Endpoint{Kinds: []events.Kind{events.UsageThresholdReached}}, event(mine), true},
		{"another kind", webhooks.Endpoint{Kinds: []events.Kind{events.ExportIssued}}, event(mine), false},
		{"disabled", webhooks.Endpoint{DisabledAt: &now}, event(mine), false},
	} {
		require.Equal(t, tc.wants, tc.endpoint.Wants(tc.event), tc.name)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	secret := webhooks.NewSecret()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(t, err)
	require.Len(t, raw, 32)
	require.NotEqual(t, secret, webhooks.NewSecret())

	first := webhooks.Secrets{Current: "a"}
	require.Equal(t, []string{"a"}, first.Signing(now))
	second := first.Rotate("b", now)
	require.Equal(t, []string{"b", "a"}, second.Signing(now.Add(webhooks.Overlap-1)))
	require.Equal(t, []string{"b"}, second.Signing(now.Add(webhooks.Overlap)))
	require.Equal(t, []string{"c", "b"}, second.Rotate("c", now).Signing(now), "two sign at most")
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := webhooks.StandardSchedule()
	require.Len(t, s, 10)
	for _, tc := range []struct {
		made       int
		retryAfter time.Duration
		wait       time.Duration
		again      bool
	}{
		{made: 0, again: true},
		{made: 1, wait: 5 * time.Second, again: true},
		{made: 1, retryAfter: time.Second, wait: 5 * time.Second, again: true},
		{made: 1, retryAfter: time.Minute, wait: time.Minute, again: true},
		{made: 1, retryAfter: time.Hour, wait: 5 * time.Minute, again: true},
		{made: 9, retryAfter: 100 * time.Hour, wait: 24 * time.Hour, again: true},
		{made: 10},
		{made: -1},
	} {
		wait, again := s.Next(tc.made, tc.retryAfter)
		require.Equal(t, tc.wait, wait, "%+v", tc)
		require.Equal(t, tc.again, again, "%+v", tc)
	}
}

// Retry-After never makes a delivery quicker, nor longer than one step of the schedule.
func TestRetryAfterStaysWithinTheSchedule(t *testing.T) {
	t.Parallel()
	s := webhooks.StandardSchedule()
	rapid.Check(t, func(t *rapid.T) {
		made := rapid.IntRange(0, len(s)-1).Draw(t, "made")
		wait, again := s.Next(made, time.Duration(rapid.Int64().Draw(t, "retry after")))
		require.True(t, again)
		require.GreaterOrEqual(t, wait, s[made])
		require.LessOrEqual(t, wait, s[min(made+1, len(s)-1)])
	})
}

func TestResponse(t *testing.T) {
	t.Parallel()
	for status, want := range map[int][2]bool{0: {}, 200: {true}, 204: {true}, 301: {}, 410: {false, true}, 500: {}} {
		o := webhooks.Response{Status: status}
		require.Equal(t, want, [2]bool{o.Delivered(), o.Gone()}, status)
	}
	require.True(t, webhooks.Delivered.Ended())
	require.True(t, webhooks.Exhausted.Ended())
	require.False(t, webhooks.Pending.Ended())
}
