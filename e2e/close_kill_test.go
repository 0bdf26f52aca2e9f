package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/sinks"
)

// slowed makes each stage last long enough to be hit, and says which one has begun.
const slowed = `
	CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(TG_ARGV[0]::float); RETURN NULL; END $$;
	CREATE TRIGGER slow AFTER INSERT ON export_batches FOR EACH STATEMENT EXECUTE FUNCTION slow_down('0.4');
	CREATE TRIGGER slow AFTER INSERT OR UPDATE ON statements FOR EACH STATEMENT EXECUTE FUNCTION slow_down('0.4');
	CREATE TRIGGER slow AFTER INSERT ON usage_rolled FOR EACH STATEMENT EXECUTE FUNCTION slow_down('0.4');
	CREATE TRIGGER slow AFTER UPDATE OF stage ON exports FOR EACH STATEMENT EXECUTE FUNCTION slow_down('1')`

// TestACloseSurvivesKillsInEveryStage closes one period again and again, kills the
// worker with SIGKILL in a stage, starts another one, and finds the bytes that a close
// without trouble wrote.
func TestACloseSurvivesKillsInEveryStage(t *testing.T) {
	t.Parallel()
	s := newSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	stripe := s.startStripe()
	worker := s.startWorker()
	s.startAPI()
	s.financeKey = s.newKey("finance")
	second := s.newKey("finance")
	last, _ := lastMonth()
	period := last.String()
	db := s.owner()
	seed(t, db, last, 3_000)

	decide := func(period, what string) {
		t.Helper()
		_, err := s.as(second, "export", what, "--period", period, "--note", "seen")
		require.NoError(t, err)
	}
	// The month before had no usage: every statement differs from it, and has to be reviewed.
	before := last.Previous().String()
	s.tollgate("export", "start", "--period", before, "--timeout", "3m")
	decide(before, "approve")
	s.awaitStage(before, billing.StageClosed)
	s.tollgate("export", "start", "--period", period, "--timeout", "3m")
	require.Equal(t, billing.StageReviewing, s.awaitStage(period, billing.StageReviewing, billing.StageApproving, billing.StageFailed).Stage)
	want := digests(t, s.downloadAll(period))
	s.tollgate("export", "cancel", "--period", period, "--note", "once more")
	require.Contains(t, s.awaitStage(period, billing.StageCanceled).Error, "once more")
	_, err := db.Exec(t.Context(), slowed)
	require.NoError(t, err)

	stages := []billing.Stage{
		billing.StageWaiting, billing.StageRollups, billing.StageFreezing, billing.StageRating, billing.StageWriting, billing.StageReviewing,
		billing.StageApproving, billing.StageIssuing, billing.StageDelivering,
	}
	_, err = db.Exec(t.Context(), `INSERT INTO organization_customers SELECT id, 'stripe', 'cus_' || id FROM organizations ORDER BY id LIMIT 3`)
	require.NoError(t, err)
	// Killed once Stripe has made the second one's invoice, and before that is answered.
	held, let := stripe.holdAt("tollgate/TG-" + period + "-000002")
	defer let()
	// An instance that has not flushed keeps the run waiting.
	behind := func(statement string, arguments ...any) {
		_, err := db.Exec(t.Context(), statement, arguments...)
		require.NoError(t, err)
	}
	behind(`INSERT INTO instances (id, host, status, started_at, seen_at, watermark)
		VALUES ('0190b000-0000-7000-8000-000000000002', 'behind', 'live', $1, now() + interval '1 hour', $1)`, last.Start())
	s.tollgate("export", "start", "--period", period, "--no-wait")
	for _, stage := range stages {
		switch stage {
		case billing.StageApproving:
			s.awaitStage(period, billing.StageReviewing)
			decide(period, "review")
		case billing.StageIssuing:
			s.awaitStage(period, billing.StageApproving)
			require.Equal(t, want, digests(t, s.downloadAll(period)))
			decide(period, "approve")
		}
		if stage == billing.StageDelivering {
			require.Eventually(t, func() bool { return isClosed(held) }, 60*time.Second, 5*time.Millisecond, "the second invoice is never made")
		}
		killIn(t, db, worker, stage)
		worker = s.startWorker()
		switch stage {
		case billing.StageWaiting:
			behind(`UPDATE instances SET status = 'stopped' WHERE host = 'behind'`)
		case billing.StageDelivering:
			let()
		}
	}
	s.awaitStage(period, billing.StageClosed)
	folder := s.downloadAll(period)
	require.Equal(t, want, digests(t, folder))
	require.Contains(t, s.tollgate("export", "verify", folder), `"verified": true`)
	var issued, numbers int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT number) FROM statements WHERE issued AND number LIKE 'TG-' || $1 || '-%'`, period).Scan(&issued, &numbers))
	require.Equal(t, 3_000, issued)
	require.Equal(t, 3_000, numbers)
	var burned int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM credit_entries WHERE kind = 'burn' AND amount = 5`).Scan(&burned))
	require.Equal(t, 3_000, burned)
	require.Equal(t, sinks.Counts{Delivered: 3, NoCustomer: 2_997}, s.deliveries(period).Counts)
	keys, asked := stripe.all()
	invoices := slices.DeleteFunc(keys, func(key string) bool { return strings.Count(key, "/") > 1 })
	require.Equal(t, []string{"tollgate/TG-" + period + "-000001", "tollgate/TG-" + period + "-000002", "tollgate/TG-" + period + "-000003"}, invoices)
	require.Greater(t, asked, len(keys), "the second one was asked for again, and made once")
}

// killIn kills a worker once the export's record says that it is in a stage, and makes
// sure that it died in it.
func killIn(t *testing.T, db *pgx.Conn, worker *process, stage billing.Stage) {
	t.Helper()
	now := func() (found billing.Stage) {
		require.NoError(t, db.QueryRow(t.Context(), `SELECT stage FROM exports ORDER BY requested_at DESC LIMIT 1`).Scan(&found))
		return found
	}
	require.Eventually(t, func() bool { return now() == stage }, 60*time.Second, 5*time.Millisecond, "never %s", stage)
	worker.kill()
	require.Equal(t, stage, now(), "the worker was too fast")
}
