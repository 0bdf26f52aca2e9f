package api

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/plans"
)

const cloudEvents = "application/cloudevents-batch+json"

// batch sends a batch that is answered, and returns the receipts.
func (r *rig) batch(key, body string, headers ...string) []map[string]any {
	r.t.Helper()
	a := r.do(key, "POST", "/api/v1/usage/batch", body, headers...)
	require.Equal(r.t, http.StatusOK, a.Code, a.Body)
	answer := a.json()
	receipts := []map[string]any{}
	counts := map[string]int{}
	for i, receipt := range answer["receipts"].([]any) {
		receipts = append(receipts, receipt.(map[string]any))
		require.InDelta(r.t, i, receipts[i]["index"], 0, "receipts are in the order of the items")
		counts[receipts[i]["status"].(string)]++
	}
	for _, status := range receiptStatuses {
		require.InDelta(r.t, counts[status], answer[status], 0, status)
	}
	return receipts
}

func statuses(receipts []map[string]any) string {
	out := []string{}
	for _, r := range receipts {
		out = append(out, r["status"].(string))
	}
	return strings.Join(out, " ")
}

func TestBatchReceipts(t *testing.T) {
	r := newRig(t)
	receipts := r.batch("free", `[
		{"meter":"evaluations","quantity":600},
		{"meter":"evaluations","quantity":600},
		{"meter":"evaluations","quantity":400},
		{"meter":"evaluations","quantity":0.5},
		{"meter":"nothing"},
		{"meter":"evaluations","colour":"red"},
		7,
		{"meter":"evaluations","timestamp":"2026-10-20T11:59:59Z"},
		{"meter":"evaluations","timestamp":"2026-11-24T12:06:00Z"},
		{"meter":"evaluations","timestamp":"2026-11-23T12:00:00Z","quantity":1000},
		{"meter":"storage_bytes","quantity":5}
	]`)
	require.Equal(t, "accepted denied accepted invalid invalid invalid invalid late invalid accepted accepted", statuses(receipts))
	require.Empty(t, cmp.Diff(map[string]any{"index": 0.0, "status": "accepted", "meter": "evaluations", "quantity": 600.0, "over_limit": false}, receipts[0]))
	require.Empty(t, cmp.Diff(map[string]any{
		"index": 1.0, "status": "denied", "meter": "evaluations", "quantity": 600.0, "current": 600.0, "held": 0.0, "max": 1000.0, "remaining": 400.0,
		"message": "The plan's limit of evaluations is reached.",
	}, receipts[1]))
	require.Empty(t, cmp.Diff(map[string]any{
		"index": 3.0, "status": "invalid", "field": "quantity", "message": "quantity must be a whole number, 0 to 1000000000000000; 0.5 is not",
	}, receipts[3]))
	require.Empty(t, cmp.Diff(map[string]any{
		"index": 7.0, "status": "late", "field": "timestamp", "message": "timestamp must be at most 35 days before now",
	}, receipts[7]))
	require.Equal(t, "meter", receipts[4]["field"])
	require.Equal(t, "colour", receipts[5]["field"])
	require.Equal(t, "item must be a JSON object", receipts[6]["message"])
	require.Equal(t, "timestamp must be at most 5 minutes after now", receipts[8]["message"])
	require.InDelta(t, 1000, r.current("free", "evaluations"), 0)
	require.InDelta(t, 5, r.current("free", "storage_bytes"), 0)

	require.Equal(t, true, r.batch("pro", `[{"meter":"simulations","quantity":5001}]`)[0]["over_limit"])
	require.Empty(t, r.batch("free", ` [ ] `))
}

func TestBatchCountsKeysOnce(t *testing.T) {
	r := newRig(t)
	keyed := func(key string, quantity int) string {
		return fmt.Sprintf(`{"meter":"evaluations","quantity":%d,"idempotency_key":%q}`, quantity, key)
	}
	receipts := r.batch("free", "["+keyed("a", 5)+","+keyed("a", 5)+","+keyed("a", 6)+","+keyed("b", 7)+"]")
	require.Equal(t, "accepted duplicate invalid accepted", statuses(receipts))
	require.Empty(t, cmp.Diff(map[string]any{"index": 1.0, "status": "duplicate", "meter": "evaluations", "quantity": 5.0, "over_limit": false}, receipts[1]))
	require.Equal(t, "idempotency_key", receipts[2]["field"])
	require.Equal(t, "idempotency_key must not be used again: the idempotency key was used with another request", receipts[2]["message"])

	require.Equal(t, "duplicate accepted", statuses(r.batch("free", "["+keyed("b", 7)+","+keyed("c", 1)+"]")), "over batches")
	require.Equal(t, "true", r.do("free", "POST", "/api/v1/usage", keyed("c", 1)).Header().Get("Idempotency-Replayed"), "and single reports")
	require.InDelta(t, 13, r.current("free", "evaluations"), 0)

	const plain = `[{"meter":"evaluations"},{"meter":"evaluations"},{"meter":"evaluations","idempotency_key":"c"}]`
	require.Equal(t, "accepted accepted duplicate", statuses(r.batch("free", plain, "Idempotency-Key", "batch-1")))
	require.Equal(t, "accepted accepted duplicate", statuses(r.batch("free", plain, "Idempotency-Key", "batch-1")), "the first receipts")
	require.Equal(t, "accepted accepted duplicate", statuses(r.batch("free", plain)))
}

func TestCloudEvents(t *testing.T) {
	r := newRig(t)
	event := func(id, more string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/flows/1"` + more + `}`
	}
	receipts := r.batch("free", "["+strings.Join([]string{
		event("1", `,"type":"evaluations","data":{"quantity":3}`),
		event("2", `,"type":"com.example.flow_executions","time":"2026-11-24T11:00:00Z","subject":"`+strings.ToUpper(r.organizations["free"].String())+`","traceparent":"00-1","tenant":7,"dataschema":null`),
		event("3", `,"type":"com.example.done","datacontenttype":"application/json; charset=utf-8","data":{"meter":"simulations","quantity":2,"flow":{"id":[1]}}`),
		event("1", `,"type":"evaluations","data":{"quantity":3}`),
		event("1", `,"type":"evaluations","data":{"quantity":4}`),
		event("1", `,"type":"evaluations","data":{"quantity":3,"note":"x"}`),
		event("4", `,"type":"evaluations","time":"2026-10-01T00:00:00Z"`),
		event("5", `,"type":"evaluations","data":null,"time":null,"datacontenttype":null`),
	}, ",")+"]", "Content-Type", cloudEvents)
	require.Equal(t, "accepted accepted accepted duplicate invalid invalid late accepted", statuses(receipts))
	require.Equal(t, "flow_executions", receipts[1]["meter"])
	require.Equal(t, "simulations", receipts[2]["meter"])
	require.Equal(t, "id", receipts[4]["field"])
	require.Equal(t, "time", receipts[6]["field"])
	require.InDelta(t, 4, r.current("free", "evaluations"), 0)

	for _, tt := range []struct{ body, field, message string }{
		{`{"id":"1","source":"s","type":"evaluations"}`, "specversion", "must be given"},
		{`{"specversion":"0.3","id":"1","source":"s","type":"evaluations"}`, "specversion", "must be 1.0"},
		{`{"specversion":"1.0","source":"s","type":"evaluations"}`, "id", "must be given"},
		{`{"specversion":"1.0","id":null,"source":"s","type":"evaluations"}`, "id", "must be given"},
		{`{"specversion":"1.0","id":"","source":"s","type":"evaluations"}`, "id", "must not be empty"},
		{`{"specversion":"1.0","id":1,"source":"s","type":"evaluations"}`, "id", "must be a string"},
		{`{"specversion":"1.0","id":"1","type":"evaluations"}`, "source", "must be given"},
		{`{"specversion":"1.0","id":"1","source":"s"}`, "type", "must be given"},
		{`{"specversion":"1.0","id":"1","source":"s","type":"evaluations.done"}`, "type", "must end in a meter's key"},
		{event("9", `,"type":"x","data":{"meter":"evaluation"}`), "data.meter", "must be one of the catalog's"},
		{event("9", `,"type":"x","data":{"meter":7}`), "data.meter", "must be a string"},
		{event("9", `,"type":"evaluations","data":{"quantity":"seven"}`), "data.quantity", `"seven" is not`},
		{event("9", `,"type":"evaluations","data":{"quantity":7.5}`), "data.quantity", "0 to 1000000000000000"},
		{event("9", `,"type":"evaluations","subject":"someone"`), "subject", "must be the key's organization"},
		{event("9", `,"type":"evaluations","subject":"`+r.organizations["pro"].String()+`"`), "subject", "must be the key's organization"},
		{event("9", `,"type":"evaluations","subject":""`), "subject", "must not be empty"},
		{event("9", `,"type":"storage_bytes","data":{}`), "data.quantity", "must be given"},
		{event("9", `,"type":"evaluations","data":{"quantity":1,"quantity":1}`), "data.quantity", "must not be given twice"},
		{event("9", `,"type":"evaluations","data":[1]`), "data", "must be an object"},
		{event("9", `,"type":"evaluations","data":{},"data_base64":"e30="`), "data_base64", "must not be given beside data"},
		{event("9", `,"type":"evaluations","data_base64":"e30"`), "data_base64", "must be base64"},
		{event("9", `,"type":"evaluations","data_base64":"aGVsbG8="`), "data_base64", "must be a JSON object"},
		{event("9", `,"type":"evaluations","data_base64":"W10="`), "data_base64", "must be an object"},
		{event("9", `,"type":"evaluations","datacontenttype":"text/xml"`), "datacontenttype", "must be application/json"},
		{event("9", `,"type":"evaluations","time":"yesterday"`), "time", "RFC 3339"},
		{event("9", `,"type":"evaluations","dataContentType":"application/json"`), "dataContentType", "is not the name of a CloudEvent's attribute"},
		{event("9", `,"type":"evaluations","id":"9"`), "id", "must not be given twice"},
		{`[]`, "item", "must be a JSON object"},
	} {
		receipt := r.batch("free", "["+tt.body+"]", "Content-Type", cloudEvents)[0]
		require.Equal(t, "invalid", receipt["status"], tt.body)
		require.Equal(t, tt.field, receipt["field"], tt.body)
		require.Contains(t, receipt["message"], tt.message, tt.body)
	}
	require.InDelta(t, 4, r.current("free", "evaluations"), 0, "nothing else was counted")
}

// TestBrokenBatchesCountNothing sends bodies that are no batch as a whole, each behind
// items that are good.
func TestBrokenBatchesCountNothing(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxBatchBytes = 256 << 10 })
	const good = `{"meter":"evaluations","idempotency_key":"k"}`
	goods := strings.Repeat(good+",", 500)
	for _, tt := range []struct{ body, field, message string }{
		{"[" + goods + `{"meter"=1}]`, "body[500]", fmt.Sprintf("invalid character '=' after object key at byte %d of the body", 1+len(goods)+9)},
		{"[" + goods + `]`, "body[500]", fmt.Sprintf("invalid character ']' looking for beginning of value at byte %d", 2+len(goods))},
		{"[" + good + " " + good + "]", "body[1]", "must be JSON"},
		{"[" + good, "body[1]", "the body ends too early"},
		{"[" + good + ",", "body[1]", "the body ends too early"},
		{"[" + good + `,{"meter":"eva`, "body[1]", "the body ends too early"},
		{"[" + good + "}", "body[1]", "must be JSON"},
		{"[" + good + "] 1", "body", "must end after the array"},
		{good + good, "body", "must be JSON"},
		{"7", "body", "must be a JSON array"},
		{"nonsense", "body", "must be JSON: invalid character 'o' in literal null (expecting 'u') at byte 2 of the body"},
		{" ", "body", "ends too early"},
	} {
		problem := r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage/batch", tt.body)
		require.Equal(t, tt.field, problem["field"], problem["message"])
		require.Contains(t, problem["message"], tt.message)
	}
	big := `{"meter":"evaluations","properties":{"a":"` + strings.Repeat("x", maxItem) + `"}}`
	for _, tt := range []struct{ body, message string }{
		{"[" + good + "," + big + "]", "Body[1] is larger than 65536 bytes."},
		{"[" + good + "," + strings.Repeat(" ", maxItem) + good + "]", "Body[1] is larger than 65536 bytes."},
		{"[" + good + strings.Repeat(`,{"meter":"evaluations"}`, maxItems) + "]", "The batch has more than 10000 items."},
		{"[" + good + strings.Repeat(","+big[:60<<10]+`"}}`, 5) + "]", "The batch is larger than 262144 bytes."},
	} {
		for _, declared := range []bool{true, false} {
			request := httptest.NewRequest("POST", "/api/v1/usage/batch", io.MultiReader(strings.NewReader(tt.body)))
			request.ContentLength = -1
			if declared {
				request.ContentLength = int64(len(tt.body))
			}
			request.Header.Set("Authorization", "Bearer "+r.secrets["free"])
			recorder := httptest.NewRecorder()
			r.server.Handler().ServeHTTP(recorder, request)
			requireConforms(t, "POST", "/api/v1/usage/batch", recorder)
			require.Equal(t, 413, recorder.Code)
			require.Equal(t, "body_too_large", answer{recorder, t}.json()["error"])
			require.Contains(t, answer{recorder, t}.json()["message"], tt.message)
		}
	}
	require.Zero(t, r.current("free", "evaluations"))
	require.Equal(t, "accepted", statuses(r.batch("free", "["+good+"]")), "no key was used up")
}

func TestBatchTypes(t *testing.T) {
	r := newRig(t)
	for contentType, status := range map[string]int{
		"application/json":                                 200,
		"application/json; charset=utf-8":                  200,
		"application/x-www-form-urlencoded":                200,
		"application/cloudevents-batch+json":               200,
		"application/cloudevents-batch+json;charset=UTF-8": 200,
		"Application/CloudEvents-Batch+JSON":               200,
		"application/cloudevents+json":                     400,
		"application/cloudevents+xml":                      415,
		"application/vnd.example+json":                     415,
		"text/plain":                                       415,
		"bad/":                                             415,
	} {
		a := r.do("free", "POST", "/api/v1/usage/batch", `[]`, "Content-Type", contentType)
		require.Equal(t, status, a.Code, contentType)
		if status == 415 {
			require.Contains(t, a.json()["message"], "application/json, application/cloudevents+json or application/cloudevents-batch+json")
		}
	}
	r.problem(415, "unsupported_media_type", "free", "POST", "/api/v1/usage", `[]`, "Content-Type", cloudEvents)
	require.Equal(t, "Idempotency-Key", r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage/batch", `[]`, "Idempotency-Key", "\x01")["field"])
	require.Equal(t, "dry_run", r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage/batch?dry_run=1", `[]`)["field"])
}

func TestABatchTakesOneToken(t *testing.T) {
	catalog := plans.Default()
	for i := range catalog.Plans {
		catalog.Plans[i].RateLimit = plans.RateLimit{RequestsPerSecond: 1, Burst: 2}
	}
	r := newRig(t)
	r.store.catalog = catalog
	require.NoError(t, r.meter.SetCatalog(catalog))
	three := "[" + strings.Repeat(`{"meter":"evaluations"},`, 2) + `{"meter":"evaluations"}]`
	for range 2 {
		require.Len(t, r.batch("free", three), 3)
	}
	r.problem(429, "rate_limited", "free", "POST", "/api/v1/usage/batch", three)
	require.InDelta(t, 6, r.current("free", "evaluations"), 0)
}
