package pgstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/pgstore"
)

// BenchmarkRecall measures how many transactions a second commit that recall quota of one instance,
// while so many listen: on a channel that all of them share, and each on its own.
func BenchmarkRecall(b *testing.B) {
	for _, listeners := range []int{0, 5, 50, 300} {
		for _, shared := range []bool{true, false} {
			b.Run(fmt.Sprintf("listeners=%d/shared=%t", listeners, shared), func(b *testing.B) {
				benchmarkRecall(b, listeners, shared)
			})
		}
	}
}

func benchmarkRecall(b *testing.B, listeners int, shared bool) {
	b.Helper()
	// Of more that connect at once, those that wait for the others give up and come again.
	const committers, atOnce = 8, 10
	f := newFixture(b)
	f.exec(`CREATE TABLE recalls (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0)`)
	f.exec(`INSERT INTO recalls SELECT generate_series(1, 8)`)
	ctx, cancel := context.WithCancel(b.Context())
	var listening, ready sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	channel := "tollgate_changes"
	var heard atomic.Int64
	for n := range listeners {
		if n%atOnce == 0 {
			ready.Wait()
		}
		instance := uuid.New()
		if !shared {
			channel = pgstore.QuotaChannel(instance)
		}
		ready.Add(1)
		connected := sync.OnceFunc(ready.Done)
		listening.Go(func() {
			_ = f.Listen(ctx, instance, func(c pgstore.Change) {
				connected()
				if c.Kind == pgstore.ChangeQuota {
					heard.Add(1)
				}
			})
		})
	}
	ready.Wait()
	var conns []*pgx.Conn
	for range committers {
		conn, err := pgx.Connect(ctx, f.db.URL)
		require.NoError(b, err)
		defer func() { _ = conn.Close(ctx) }()
		conns = append(conns, conn)
	}
	var next atomic.Int64
	b.ResetTimer()
	began := time.Now()
	var committing sync.WaitGroup
	for i, conn := range conns {
		committing.Go(func() {
			for next.Add(1) <= int64(b.N) {
				_, err := conn.Exec(ctx, `
					WITH changed AS (UPDATE recalls SET n = n + 1 WHERE id = $1 RETURNING n)
					SELECT pg_notify($2, json_build_object('kind', 'quota', 'id', $3::text, 'n', n)::text) FROM changed`,
					i+1, channel, uuid.NewString())
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	committing.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "commits/s")
	b.StopTimer()
}
