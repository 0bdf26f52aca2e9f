package api

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOneEventInEveryMode sends the same event in each mode and type: it counts once.
func TestOneEventInEveryMode(t *testing.T) {
	r := newRig(t)
	free := r.organizations["free"].String()
	const event = `{"specversion":"1.0","id":"e 1","source":"/flüsse/1","type":"com.example.evaluations","time":"2026-11-24T10:00:00Z","data":{"quantity":3,"region":"eu"}}`
	binary := []string{
		"Ce-Specversion", "1.0", "Ce-Id", "e%201", "Ce-Source", "/fl%C3%BCsse/1", "Ce-Type", "com.example.evaluations", "Ce-Time", "2026-11-24t12:00:00.0%2B02:00",
		"Ce-Subject", free, "Ce-Tenant", "7",
	}
	for i, tt := range []struct {
		body    string
		headers []string
	}{
		{event, []string{"Content-Type", "application/cloudevents+json"}},
		{event, []string{"Content-Type", "Application/CloudEvents+JSON; charset=UTF-8"}},
		{"[" + event + "]", []string{"Content-Type", "application/cloudevents-batch+json; charset=utf-8"}},
		{event, []string{"Content-Type", "application/json; charset=utf-8"}},
		{" \n[" + event + "]", []string{"Content-Type", "application/json"}},
		{"  " + event + " ", nil},
		{strings.Replace(event, `"data":{"quantity":3,"region":"eu"}`, `"data_base64":"eyJyZWdpb24iOiJldSIsInF1YW50aXR5IjoiMy4wIn0="`, 1), nil},
		{strings.Replace(event, `"data"`, `"subject":"`+free+`","data"`, 1), nil},
		{`{"quantity":3e0,"region":"eu"}`, append([]string{"Content-Type", "application/json"}, binary...)},
		{`{"region":"\u0065u","quantity":"3"}`, append([]string{"Content-Type", "application/vnd.usage+json; charset=utf-8"}, binary...)},
		{`{"region":"eu","quantity":3}`, append([]string{"Content-Type", "application/json", "Ce-Id", `"e 1"`}, binary[:2]...)},
	} {
		if i == 10 {
			tt.headers = append(tt.headers, binary[4:]...)
		}
		receipts := r.batch("free", tt.body, tt.headers...)
		require.Len(t, receipts, 1)
		want := "duplicate"
		if i == 0 {
			want = "accepted"
		}
		require.Equal(t, want, receipts[0]["status"], "%d %v: %v", i, tt.headers, receipts[0])
		require.InDelta(t, 3, receipts[0]["quantity"], 0)
	}
	require.InDelta(t, 3, r.current("free", "evaluations"), 0)
	require.Equal(t, "accepted", statuses(r.batch("free", "", "Ce-Specversion", "1.0", "Ce-Id", "2", "Ce-Source", "s", "Ce-Type", "evaluations")), "no data is one")
}

// TestReportsAndEventsMix sends both in one array, and a report alone.
func TestReportsAndEventsMix(t *testing.T) {
	r := newRig(t)
	require.Equal(t, "accepted accepted invalid invalid", statuses(r.batch("free", `[
		{"meter":"evaluations","quantity":"2"},
		{"id":"1","source":"s","type":"x.simulations","specversion":"1.0","meter":"an extension"},
		{"id":"1","source":"s","type":"x.simulations"},
		{"meter":"evaluations","id":"1"}
	]`)))
	require.Equal(t, "accepted", statuses(r.batch("free", ` {"meter":"evaluations","quantity":5}`)))
	require.InDelta(t, 7, r.current("free", "evaluations"), 0)
	for _, tt := range []struct{ body, field string }{
		{`{"meter":"evaluations","id":"1"}`, "id"},
		{`{"id":"1","source":"s","type":"x.simulations"}`, "specversion"},
		{`{"specversion":null,"id":"1","source":"s","type":"x.simulations"}`, "specversion"},
		{`{"specversion":"1.0","id":"\ud83d","source":"s","type":"x.simulations"}`, "id"},
		{`{"specversion":"1.0","id":"1","source":"\ude00","type":"x.simulations"}`, "source"},
		{"{\"specversion\":\"1.0\",\"id\":\"\xe9\",\"source\":\"s\",\"type\":\"x.simulations\"}", "id"},
	} {
		require.Equal(t, tt.field, r.batch("free", tt.body)[0]["field"], tt.body)
	}
	require.Equal(t, "body", r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage/batch", `[]`, "Content-Type", "application/cloudevents+json")["field"])
	require.Equal(t, "body", r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage/batch", `{}`, "Content-Type", cloudEvents)["field"])
	require.Equal(t, "body", r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage/batch", ``)["field"])
	require.Equal(t, "body", r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage/batch", `{"meter":"evaluations"`)["field"])
	r.problem(413, "body_too_large", "free", "POST", "/api/v1/usage/batch", `{"meter":"`+strings.Repeat("x", maxItem)+`"}`)
}

func TestBinaryEventsNameTheHeader(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		name, value, body, field, message string
	}{
		{"Ce-Specversion", "", "", "ce-specversion", "must not be empty"},
		{"Ce-Specversion", "0.3", "", "ce-specversion", "must be 1.0"},
		{"Ce-Id", "-", "", "ce-id", "must be given"},
		{"Ce-Source", "-", "", "ce-source", "must be given"},
		{"Ce-Type", "-", "", "ce-type", "must be given"},
		{"Ce-Type", "nothing", "", "ce-type", "must end in a meter's key"},
		{"Ce-Time", "2026-11-24 10:00:00Z", "", "ce-time", "RFC 3339"},
		{"Ce-Time", "2026-10-01T10:00:00Z", "", "ce-time", "must be at most 35 days before now"},
		{"Ce-Subject", "someone", "", "ce-subject", "must be the key's organization"},
		{"Ce-Id", "50%", "", "ce-id", "percent-encoded"},
		{"Ce-Id", "%ff", "", "ce-id", "percent-encoded"},
		{"Ce-Id", "%EF%BF%BD", "", "ce-id", "must be Unicode"},
		{"Ce-Datacontenttype", "application/json", "", "ce-datacontenttype", "must not be given"},
		{"Ce-Data_base64", "e30=", "", "ce-data_base64", "must not be given"},
		{"Ce-X-Y", "1", "", "ce-x-y", "is not the name"},
		{"Content-Type", "text/xml", "<a/>", "Content-Type", "must be application/json"},
		{"Ce-Tenant", "1", "[1]", "data", "must be an object"},
		{"Ce-Tenant", "1", "nonsense", "data", "must be a JSON object"},
		{"Ce-Tenant", "1", `{"quantity":1.5}`, "data.quantity", "1.5 is not"},
		{"Ce-Tenant", "1", `{"meter":"x"}`, "data.meter", "must be one of the catalog's"},
	} {
		headers := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "s", "Ce-Type": "evaluations", "Content-Type": "application/json"}
		headers[tt.name] = tt.value
		var list []string
		for name, value := range headers {
			if value != "-" {
				list = append(list, name, value)
			}
		}
		receipt := r.batch("free", tt.body, list...)[0]
		require.Equal(t, tt.field, receipt["field"], fmt.Sprint(tt, receipt))
		require.Contains(t, receipt["message"], tt.message)
	}
	require.Zero(t, r.current("free", "evaluations"))
}

// TestEventsAreRefusedWhereNoneAreTaken sends an event to each route with a body: its
// identity must not be passed over.
func TestEventsAreRefusedWhereNoneAreTaken(t *testing.T) {
	r := newRig(t)
	keys := map[role]string{roleTenant: "free", roleFinance: "finance", roleAdmin: "admin"}
	routes := map[string]string{"POST " + usagePath: "free"}
	for route, a := range accessTo {
		if a.body != nil {
			routes[route] = keys[a.roles[0]]
		}
	}
	const report = `{"meter":"evaluations","quantity":3}`
	for route, key := range routes {
		method, path, _ := strings.Cut(route, " ")
		path = regexp.MustCompile(`:\w+`).ReplaceAllString(path, r.organizations["free"].String())
		for _, tt := range []struct {
			headers []string
			says    string
		}{
			{[]string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-Type", "evaluations"}, "The header ce-id"},
			{[]string{"Ce-Source", "s"}, "The header ce-source"},
			{[]string{"Ce-Type", "evaluations"}, "The header ce-type"},
			{[]string{"Ce-Specversion", ""}, "The header ce-specversion"},
			{[]string{"Ce-Id", "1", "Content-Type", "text/plain"}, "The header ce-id"},
			{[]string{"Content-Type", "application/cloudevents+json"}, "The Content-Type application/cloudevents+json"},
			{[]string{"Content-Type", "Application/CloudEvents-Batch+JSON; charset=utf-8"}, "The Content-Type application/cloudevents-batch+json"},
			{[]string{"Content-Type", "application/cloudevents+xml"}, "The Content-Type application/cloudevents+xml"},
		} {
			said := r.problem(415, "unsupported_media_type", key, method, path, report, tt.headers...)["detail"]
			require.Equal(t, tt.says+" makes the request a CloudEvent, which this route doesn't take: send it to POST /api/v1/usage/batch.", said, route)
		}
	}
	said := r.problem(400, "invalid_request", "free", "POST", usagePath, `{"specversion":"1.0","id":"1","source":"s","type":"evaluations"}`)
	require.Equal(t, "specversion", said["field"])
	require.Contains(t, said["detail"], "a CloudEvent goes to POST /api/v1/usage/batch")
	require.Zero(t, r.current("free", "evaluations"))
	require.Equal(t, 200, r.do("free", "POST", usagePath, report, "Ce-Time", "x").Code, "it takes more than a time to make an event")
}
