package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// fullJournal keeps as many records as it has room for.
type fullJournal struct{ room atomic.Int64 }

var errFull = errors.New("the journal is full")

func (j *fullJournal) Append(meter.Record) (int64, error) {
	if j.room.Add(-1) < 0 {
		return 0, errFull
	}
	return 1, nil
}
func (*fullJournal) Waits() bool                 { return false }
func (*fullJournal) Prepare() error              { return nil }
func (*fullJournal) Rotate() (int64, error)      { return 1, nil }
func (*fullJournal) Records(int64) int64         { return 0 }
func (*fullJournal) Written(meter.BatchID) error { return nil }
func (*fullJournal) Kept(meter.BatchID) (iter.Seq2[meter.Record, error], bool) {
	return nil, false
}

func (j *fullJournal) Health() error {
	if j.room.Load() < -1 {
		return errFull
	}
	return nil
}

// strictRig refuses what its journal has no room for.
func strictRig(t *testing.T, room int64) (*rig, *fullJournal) {
	t.Helper()
	journal := &fullJournal{}
	journal.room.Store(room)
	return rigOf(t, meter.Config{Journal: journal, RefuseUnjournalled: true}), journal
}

// rigOf is a rig with a meter of its own, of which nothing else is to be said.
func rigOf(t *testing.T, config meter.Config) *rig {
	t.Helper()
	var r *rig
	r = newRig(t, func(c *Config) {
		config.Catalog, config.Store, config.Logger = plans.Default(), c.Store.(*fakeStore).meterStore(), c.Logger
		config.Now = func() time.Time { return r.Now() }
		m := meter.New(config)
		t.Cleanup(m.Close)
		c.Meter = m
	})
	return r
}

func TestBatchThatCannotBeCounted(t *testing.T) {
	const three = `[{"meter":"evaluations","idempotency_key":"a"},{"meter":"evaluations","idempotency_key":"b"},{"meter":"x"}]`
	r, journal := strictRig(t, 1)
	receipts := r.batch("free", three)
	require.Equal(t, "accepted unavailable invalid", statuses(receipts))
	require.Contains(t, receipts[1]["message"], "send it again")
	require.InDelta(t, 1, r.current("free", "evaluations"), 0)

	a := r.do("free", "POST", "/api/v1/usage/batch", `[{"meter":"x"},{"meter":"evaluations","idempotency_key":"b"}]`)
	require.Equal(t, http.StatusServiceUnavailable, a.Code, "nothing of it was counted")
	require.Equal(t, "1", a.Header().Get("Retry-After"))
	r.problem(503, "unavailable", "free", "POST", "/api/v1/usage/batch", three)
	r.problem(503, "unavailable", "free", "POST", "/api/v1/usage", `{"meter":"evaluations","idempotency_key":"b"}`)

	journal.room.Store(10)
	require.Equal(t, "duplicate accepted invalid", statuses(r.batch("free", three)))
	require.InDelta(t, 2, r.current("free", "evaluations"), 0)
}

// TestReportsThatFindTooManyBeforeThem holds that what may wait for the store is bounded, and that what is refused may be sent again.
func TestReportsThatFindTooManyBeforeThem(t *testing.T) {
	const three = `[{"meter":"evaluations","idempotency_key":"a"},{"meter":"evaluations","idempotency_key":"b"},{"meter":"evaluations"}]`
	r := rigOf(t, meter.Config{MaxIdentified: 1})
	receipts := r.batch("free", three)
	require.Equal(t, "accepted unavailable accepted", statuses(receipts))
	require.InDelta(t, 2, r.current("free", "evaluations"), 0)
	r.problem(503, "unavailable", "free", "POST", "/api/v1/usage/batch", three)
	for body, path := range map[string]string{
		`{"meter":"evaluations","idempotency_key":"b"}`:                      "/api/v1/usage",
		`{"specversion":"1.0","id":"1","source":"s","type":"evaluations"}`:   "/api/v1/usage/batch",
		`[{"specversion":"1.0","id":"1","source":"s","type":"evaluations"}]`: "/api/v1/usage/batch",
	} {
		a := r.do("free", "POST", path, body)
		require.Equal(t, http.StatusServiceUnavailable, a.Code, body)
		require.Equal(t, "1", a.Header().Get("Retry-After"))
	}
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code, "what bears no identity is folded")
	require.InDelta(t, 3, r.current("free", "evaluations"), 0)
}

// itemsReader makes a batch as it is read, so that no one holds it.
type itemsReader struct {
	next func(i int) string
	n, i int
	rest []byte
}

func (r *itemsReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		switch {
		case r.i > r.n:
			return 0, io.EOF
		case r.i == r.n:
			r.rest = []byte("]")
		case r.i == 0:
			r.rest = []byte("[" + r.next(0))
		default:
			r.rest = []byte("," + r.next(r.i))
		}
		r.i++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// TestALargeBatchIsBounded reads the largest batch: what is kept of it is little, and
// the receipts come in the order of the items.
func TestALargeBatchIsBounded(t *testing.T) {
	r := newRig(t)
	padding := strings.Repeat("x", 1400)
	var peak uint64
	var memory runtime.MemStats
	// The second collection takes what pools have kept over the first.
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&memory)
	before := memory.HeapAlloc
	body := &itemsReader{n: maxItems, next: func(i int) string {
		if i%2500 == 2499 {
			runtime.GC()
			runtime.ReadMemStats(&memory)
			peak = max(peak, memory.HeapAlloc)
		}
		return fmt.Sprintf(`{"meter":"flow_executions","quantity":%d,"idempotency_key":"k%d","properties":{"p":%q}}`, i+1, i, padding)
	}}
	request := httptest.NewRequest("POST", "/api/v1/usage/batch", body)
	request.Header.Set("Authorization", "Bearer "+r.secrets["enterprise"])
	recorder := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(recorder, request)
	require.Equal(t, 200, recorder.Code, recorder.Body)
	require.Less(t, int64(peak)-int64(before), int64(6<<20), "of a body of 15 MB")
	require.True(t, recorder.Flushed || recorder.Body.Len() > receiptBuffer)

	var out struct {
		Receipts []receipt `json:"receipts"`
		Accepted int       `json:"accepted"`
	}
	require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &out))
	require.Len(t, out.Receipts, maxItems)
	require.Equal(t, maxItems, out.Accepted)
	for i := range out.Receipts {
		require.Equal(t, i, out.Receipts[i].Index)
		require.EqualValues(t, i+1, *out.Receipts[i].Quantity)
	}
	require.InDelta(t, maxItems*(maxItems+1)/2, r.current("enterprise", "flow_executions"), 0)
}

// FuzzBatch holds the reader of batches against encoding/json: it takes the arrays that
// encoding/json takes, item by item, but for those that are too large.
func FuzzBatch(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"meter":"m"}]`, ` [ 1 , "a" , null ] `, `[1,]`, `[,1]`, `[1 2]`, `[1]]`, `[1}`, `{"a":1}`, `[`, `[[[[]]]]`, `"[1]"`, `[1]x`, ``, "[\"\xff\"]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var items [][]byte
		err := eachItem(bytes.NewReader(body), func(raw []byte) error {
			require.True(t, json.Valid(raw))
			items = append(items, bytes.Clone(raw))
			return nil
		})
		if err != nil {
			require.Contains(t, []int{400, 413}, problemOf(err).Status)
			if problemOf(err).Status == 413 {
				return
			}
		}
		var want []json.RawMessage
		failed := json.Unmarshal(body, &want)
		if string(bytes.TrimSpace(body)) == "null" {
			require.Error(t, err)
			return
		}
		require.Equal(t, failed == nil, err == nil, "%v %v", failed, err)
		if err != nil {
			return
		}
		require.Len(t, items, len(want))
		for i := range want {
			require.JSONEq(t, string(want[i]), string(items[i]))
		}
	})
}

// FuzzCloudEvent holds that what is taken for a CloudEvent is one, with the fields that
// encoding/json finds.
func FuzzCloudEvent(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"s","type":"a.evaluations"}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-11-24T12:00:00Z","data":{"meter":"m","quantity":7,"x":[{}]}}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","data":null,"ext":true}`, `{"specversion":"1.0","id":"1","source":"s","type":"a.b","data_base64":"e30="}`,
		`{"specversion":"1.0","id":"\u0031","source":"s","type":"t","data":{"quantity":-1}}`, `{"specversion":1}`, `[]`, `{"":1}`, `{"data":{"a":1`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		item, err := parseCloudEvent(body)
		if err != nil {
			require.Equal(t, 400, problemOf(err).Status)
			return
		}
		var want struct {
			Specversion, ID, Source, Type string
			Time                          *string
		}
		var all map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &all))
		for name, into := range map[string]any{"specversion": &want.Specversion, "id": &want.ID, "source": &want.Source, "type": &want.Type, "time": &want.Time} {
			if raw, ok := all[name]; ok {
				require.NoError(t, json.Unmarshal(raw, into))
			}
		}
		require.Equal(t, "1.0", want.Specversion)
		require.NotEmpty(t, want.ID)
		require.NotEmpty(t, want.Source)
		require.Equal(t, meter.CloudEventIdentity(want.Source, want.ID), item.identity)
		require.Equal(t, want.Time != nil, item.timestamp != "")
		if item.names == &typedEventNames {
			require.True(t, strings.HasSuffix(want.Type, string(item.meter)))
		}
		either, err := parseEither(body)
		require.NoError(t, err, "it is one as application/json, too")
		require.Equal(t, item.fingerprint("m", 1), either.fingerprint("m", 1))
	})
}

// TestReceiptsAreJSON holds that a receipt is what encoding/json makes of it.
func TestReceiptsAreJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Ptr(rapid.Int64(), true)
		r := receipt{
			Index: rapid.IntRange(0, 10_000).Draw(t, "index"), Status: rapid.SampledFrom(receiptStatuses).Draw(t, "status"),
			Meter: rapid.SampledFrom([]string{"", "evaluations"}).Draw(t, "meter"), Quantity: number.Draw(t, "quantity"),
			OverLimit: rapid.Ptr(rapid.Bool(), true).Draw(t, "over limit"), Current: number.Draw(t, "current"), Held: number.Draw(t, "held"),
			Max: number.Draw(t, "max"), Remaining: number.Draw(t, "remaining"), Field: rapid.String().Draw(t, "field"),
			Message: rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`)).Draw(t, "message"),
		}
		want, err := json.Marshal(&r)
		require.NoError(t, err)
		require.Equal(t, string(want), string(r.append(nil)))
	})
}
