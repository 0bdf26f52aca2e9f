package api

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// discard is a writer that costs nothing, so that what is measured is ours.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkRecordUsage measures POST /usage without the network: authentication,
// body, decision, count and answer. It reuses request and writer, so the figures are
// those of the handler alone.
func BenchmarkRecordUsage(b *testing.B) {
	for _, tt := range []struct{ name, key, body string }{
		{"allowed", "enterprise", `{"meter":"evaluations","quantity":1}`},
		{"allowed at a rate", "pro", `{"meter":"evaluations"}`},
		{"refused", "free", `{"meter":"evaluations","quantity":2000}`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			r := newRig(b, func(c *Config) { c.Logger = slog.New(slog.DiscardHandler) })
			catalog := plans.Default()
			for i := range catalog.Plans {
				if catalog.Plans[i].RateLimit.RequestsPerSecond > 0 {
					catalog.Plans[i].RateLimit = plans.RateLimit{RequestsPerSecond: 1e9, Burst: 1e9}
				}
			}
			require.NoError(b, r.meter.SetCatalog(catalog))
			handler := r.server.Handler()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				reader := strings.NewReader(tt.body)
				request := httptest.NewRequest(http.MethodPost, "/api/v1/usage", nil)
				request.Header.Set("Authorization", "Bearer "+r.secrets[tt.key])
				request.Header.Set("Content-Type", "application/json")
				request.Body = io.NopCloser(reader)
				writer := &discard{header: http.Header{}}
				for pb.Next() {
					reader.Reset(tt.body)
					clear(writer.header)
					handler.ServeHTTP(writer, request)
				}
			})
		})
	}
}

func BenchmarkDecodeUsage(b *testing.B) {
	body := []byte(`{"meter":"evaluations","quantity":250}`)
	b.Run("scan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := scanUsage(body); !ok {
				b.Fatal("not scanned")
			}
		}
	})
	b.Run("exact", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseUsageExactly(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRecordBatch measures POST /usage/batch without the network, by item.
func BenchmarkRecordBatch(b *testing.B) {
	const items = 1_000
	for _, tt := range []struct{ name, item string }{
		{"plain", `{"meter":"evaluations","quantity":1}`},
		{"with a time", `{"meter":"evaluations","quantity":1,"timestamp":"2026-10-31T11:59:00Z"}`},
		{"with a key", `{"meter":"evaluations","quantity":1,"idempotency_key":"job-%d"}`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			r := newRig(b, func(c *Config) { c.Logger, c.TenantCost = slog.New(slog.DiscardHandler), 1<<40 })
			flusher := meter.NewFlusher(meter.FlusherConfig{Meter: r.meter, Store: r.store.meterStore(), Instance: uuid.New(), Now: r.Now})
			handler := r.server.Handler()
			reader := &strings.Reader{}
			request := httptest.NewRequest(http.MethodPost, "/api/v1/usage/batch", nil)
			request.Header.Set("Authorization", "Bearer "+r.secrets["enterprise"])
			request.Header.Set("Content-Type", "application/json")
			request.Body = io.NopCloser(reader)
			writer := &discard{header: http.Header{}}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				batch := make([]string, items)
				for i := range batch {
					batch[i] = tt.item
					if strings.Contains(tt.item, "%d") {
						batch[i] = fmt.Sprintf(tt.item, n)
						n++
					}
				}
				reader.Reset("[" + strings.Join(batch, ",") + "]")
				clear(writer.header)
				b.StartTimer()
				handler.ServeHTTP(writer, request)
				require.Equal(b, http.StatusOK, writer.status)
				// A crowd would wait for its drain.
				if n%50_000 == 0 && n > 0 {
					b.StopTimer()
					_, err := flusher.Flush(b.Context())
					require.NoError(b, err)
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(b.N*items)/b.Elapsed().Seconds(), "items/s")
		})
	}
}
