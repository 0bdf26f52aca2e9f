package pgstore_test

import (
	"flag"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
)

// What rollups and freezes are measured with. Each organization has all five meters of the default
// catalog; a round hands the same rows out by COPY before, and reports how many times as long it takes.
var (
	benchOrganizations = flag.String("organizations", "20000", "of how many organizations rollups and freezes are measured; several, separated by commas")
	benchBatches       = flag.Int("batches", 10, "how many batches of the day each record has in BenchmarkRollUpDay")
	benchRounds        = flag.Int("rounds", 1, "how often rollups and freezes are measured over the same rows")
)

// eachBenchOrganizations runs a benchmark for each number of organizations.
func eachBenchOrganizations(b *testing.B, run func(b *testing.B, organizations int)) {
	b.Helper()
	for _, text := range strings.Split(*benchOrganizations, ",") {
		n, err := strconv.Atoi(text)
		require.NoError(b, err)
		b.Run("organizations="+text, func(b *testing.B) { run(b, n) })
	}
}

// BenchmarkRollUpDay measures the rollup of a day of some batches of each record, in the middle of a
// month: the first one of the day, and one that finds nothing new. The two days before are rolled up; of
// the others of the month no rollup reads a row.
func BenchmarkRollUpDay(b *testing.B) { eachBenchOrganizations(b, benchmarkRollUpDay) }

func benchmarkRollUpDay(b *testing.B, organizations int) {
	b.Helper()
	f := newFixture(b)
	f.crowd(organizations)
	first, second := f.instance(), f.instance()
	f.exec(`
		INSERT INTO usage_batch_rows (day, instance_id, seq, organization_id, meter, plan, plan_version, value, at)
		SELECT $1::date, CASE n % 2 WHEN 0 THEN $2::uuid ELSE $3::uuid END, n / 2 + 1, o.id, m.key, 'free', 1, n + 1, $1::date + make_interval(hours => n + 1)
		FROM generate_series(0, $4::int - 1) AS n, organizations o, meters m
		ORDER BY n, o.id, m.key`, today.Start(), first.id, second.id, *benchBatches)
	f.exec(`
		INSERT INTO usage_daily (organization_id, meter, day, value, last_at)
		SELECT r.organization_id, r.meter, r.day, CASE m.aggregation WHEN 'sum' THEN sum(r.value) ELSE max(r.value) END, max(r.at)
		FROM usage_batch_rows r JOIN meters m ON m.key = r.meter
		GROUP BY r.organization_id, r.meter, r.day, m.aggregation ORDER BY 1, 2, 3`)
	f.exec(`UPDATE instances SET last_seq = $1`, *benchBatches/2)
	f.rolledDays(today-2, today-1)
	f.exec(`VACUUM ANALYZE`)
	for range *benchRounds {
		copied := f.copyOut(b, `SELECT * FROM usage_batch_rows WHERE day = '`+today.String()+`'`)
		for _, run := range []string{"first", "again"} {
			b.Run("run="+run, func(b *testing.B) {
				for range b.N {
					if run == "first" {
						b.StopTimer()
						f.exec(`DELETE FROM usage_rolled WHERE day = $1`, today.Start())
						f.exec(`DELETE FROM usage_rollup_batches`)
						f.exec(`DELETE FROM usage_rollups WHERE day = $1`, today.Start())
						b.StartTimer()
					}
					rollup := f.rollUp(today)
					require.Zero(b, rollup.VarianceCount)
					require.EqualValues(b, organizations*5, rollup.Rows)
				}
				reportBeside(b, copied, organizations*5**benchBatches)
			})
		}
	}
}

// BenchmarkFreezeExport measures the freeze of a month of rolled days.
func BenchmarkFreezeExport(b *testing.B) { eachBenchOrganizations(b, benchmarkFreezeExport) }

func benchmarkFreezeExport(b *testing.B, organizations int) {
	b.Helper()
	f := newFixture(b)
	f.crowd(organizations)
	f.rolledDays(firstDay, lastDay)
	w := f.instance()
	w.flush(row(f.organization("Acme", "free").ID, evaluations, firstDay, 1))
	f.exec(`UPDATE usage_rollups SET stale = false`)
	f.exec(`VACUUM ANALYZE`)
	for range *benchRounds {
		copied := f.copyOut(b, `SELECT * FROM usage_rolled WHERE day BETWEEN '`+firstDay.String()+`' AND '`+lastDay.String()+`'`)
		b.Run("run=freeze", func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				f.exec(`TRUNCATE exports CASCADE`)
				e := f.beginExport(period, "run")
				b.StartTimer()
				f.freeze(e.ID)
				b.StopTimer()
				require.EqualValues(b, organizations*5, f.count(`SELECT count(*) FROM export_usage`))
				b.StartTimer()
			}
			reportBeside(b, copied, int(lastDay-firstDay+1)*organizations*5)
		})
	}
}

// crowd makes many organizations.
func (f *fixture) crowd(organizations int) {
	f.t.Helper()
	f.exec(`INSERT INTO organizations (id, name) SELECT tollgate_uuidv7(), 'Tenant' FROM generate_series(1, $1::int)`, organizations)
}

// rolledDays rolls up days, both included: each organization has 10 of each meter.
func (f *fixture) rolledDays(from, to calendar.Day) {
	f.t.Helper()
	// A day at a time: what is sorted of a million organizations fits on the disk beside the table.
	for day := from; day <= to; day++ {
		f.exec(`
			INSERT INTO usage_rolled (organization_id, meter, day, value, carried, month_to_date, unit_seconds)
			SELECT o.id, m.key, $1::date, 10, false, 10, CASE m.aggregation WHEN 'last' THEN 864000 END
			FROM organizations o, meters m
			ORDER BY o.id, m.key`, day.Start())
	}
	f.exec(`
		INSERT INTO usage_rollups (day, revision, content_revision, basis_day, basis_revision, batches, row_count, variance_count)
		SELECT d.day, 1, 1, lag(d.day) OVER (ORDER BY d.day), lag(1) OVER (ORDER BY d.day), 1, 1, 0
		FROM generate_series($1::date::timestamp, $2::date::timestamp, interval '1 day') AS d (day)`, from.Start(), to.Start())
}

// copyOut returns how long COPY takes to hand out what a query selects: the faster of two times.
func (f *fixture) copyOut(b *testing.B, query string) time.Duration {
	b.Helper()
	conn := connect(b, f.db.URL)
	var best time.Duration
	for range 2 {
		began := time.Now()
		_, err := conn.PgConn().CopyTo(b.Context(), io.Discard, `COPY (`+query+`) TO STDOUT`)
		require.NoError(b, err)
		if took := time.Since(began); best == 0 || took < best {
			best = took
		}
	}
	return best
}

// reportBeside reports how many rows a second are folded, and how many times as long as by COPY it takes.
func reportBeside(b *testing.B, copied time.Duration, rows int) {
	b.Helper()
	one := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(float64(rows)/one, "rows/s")
	b.ReportMetric(one/copied.Seconds(), "x-COPY")
	b.ReportMetric(float64(copied.Nanoseconds()), "copy-ns")
}
