package e2e_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
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

// closing are the stages of a close, in their order.
var closing = []billing.Stage{
	billing.StageWaiting, billing.StageRollups, billing.StageFreezing, billing.StageRating, billing.StageWriting, billing.StageReviewing,
	billing.StageApproving, billing.StageIssuing, billing.StageDelivering,
}

// TestACloseSurvivesKills closes a month, kills the worker with SIGKILL in some stages, each time
// starts another one, and finds the bytes that a close without trouble wrote. What a killed worker
// held comes back after a heartbeat's timeout, so make test kills in two stages: while usage is
// frozen, and between an invoice and its record. With TOLLGATE_CLOSE_KILLS=all, which make chaos
// sets, it kills in every one.
func TestACloseSurvivesKills(t *testing.T) {
	t.Parallel()
	killed := []billing.Stage{billing.StageFreezing, billing.StageDelivering}
	if os.Getenv("TOLLGATE_CLOSE_KILLS") == "all" {
		killed = closing
	}
	newDoomedClose(t).survive(killed)
}

// doomedClose is a close of a month that has been closed once without trouble, up to the
// files, and canceled.
type doomedClose struct {
	*system
	db     *pgx.Conn
	stripe *stripe
	worker *process
	// second is the key of who approves.
	second string
	period calendar.Period
	// want are the digests of the files.
	want map[string]string
}

const doomedOrganizations = 3_000

func newDoomedClose(t *testing.T) *doomedClose {
	t.Helper()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	c := &doomedClose{system: s, db: s.owner(), stripe: s.startStripe()}
	c.period, _ = lastMonth()
	c.worker = s.startWorker()
	s.startAPI()
	s.financeKey, c.second = s.newKey("finance"), s.newKey("finance")
	period, before := c.period.String(), c.period.Previous().String()
	seed(t, c.db, c.period, doomedOrganizations)

	step(t, "the month before is closed: it had no usage, so every statement of the next one has to be reviewed")
	s.tollgate("export", "start", "--period", before, "--timeout", "3m")
	c.decide(before, "approve")
	s.awaitStage(before, billing.StageClosed)

	step(t, "a close without trouble, canceled once its files are there")
	s.tollgate("export", "start", "--period", period, "--timeout", "3m")
	require.Equal(t, billing.StageReviewing, s.awaitStage(period, billing.StageReviewing, billing.StageApproving, billing.StageFailed).Stage)
	c.want = digests(t, s.downloadAll(period))
	s.tollgate("export", "cancel", "--period", period, "--note", "once more")
	require.Contains(t, s.awaitStage(period, billing.StageCanceled).Error, "once more")
	c.exec(slowed)
	c.exec(`INSERT INTO organization_customers SELECT id, 'stripe', 'cus_' || id FROM organizations ORDER BY id LIMIT 3`)
	return c
}

func (c *doomedClose) exec(statement string, arguments ...any) {
	c.t.Helper()
	_, err := c.db.Exec(c.t.Context(), statement, arguments...)
	require.NoError(c.t, err)
}

func (c *doomedClose) decide(period, what string) {
	c.t.Helper()
	_, err := c.as(c.second, "export", what, "--period", period, "--note", "seen")
	require.NoError(c.t, err)
}

// survive closes the month, and kills the worker in some stages.
func (c *doomedClose) survive(killed []billing.Stage) {
	t, period := c.t, c.period.String()
	dies := func(stage billing.Stage) bool { return slices.Contains(killed, stage) }
	// Killed once Stripe has made the second one's invoice, and before that is answered.
	held, let := (<-chan struct{})(nil), func() {}
	if dies(billing.StageDelivering) {
		held, let = c.stripe.holdAt("tollgate/TG-" + period + "-000002")
		defer let()
	}
	catchUp := func() {}
	if dies(billing.StageWaiting) {
		catchUp = c.fallBehind(c.period)
	}
	c.tollgate("export", "start", "--period", period, "--no-wait")
	for _, stage := range closing {
		switch stage {
		case billing.StageApproving:
			c.awaitStage(period, billing.StageReviewing)
			c.decide(period, "review")
		case billing.StageIssuing:
			c.awaitStage(period, billing.StageApproving)
			require.Equal(t, c.want, digests(t, c.downloadAll(period)))
			c.decide(period, "approve")
		}
		if !dies(stage) {
			continue
		}
		step(t, "the worker is killed in the stage "+string(stage))
		if stage == billing.StageDelivering {
			require.Eventually(t, func() bool { return isClosed(held) }, stageWait, 5*time.Millisecond, "the second invoice is never made")
		}
		killIn(t, c.db, c.worker, stage)
		c.worker = c.startWorker()
		switch stage {
		case billing.StageWaiting:
			catchUp()
		case billing.StageDelivering:
			let()
		}
	}
	c.awaitStage(period, billing.StageClosed)
	c.requireClosedOnce()
	keys, asked := c.stripe.all()
	if dies(billing.StageDelivering) {
		require.Greater(t, asked, len(keys), "the second one was asked for again, and made once")
	}
}

// requireClosedOnce holds that the month was closed as if nothing had happened.
func (c *doomedClose) requireClosedOnce() {
	t, period := c.t, c.period.String()
	step(t, "the month is closed once")
	folder := c.downloadAll(period)
	require.Equal(t, c.want, digests(t, folder))
	require.Contains(t, c.tollgate("export", "verify", folder), `"verified": true`)
	var issued, numbers int
	require.NoError(t, c.db.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT number) FROM statements WHERE issued AND number LIKE 'TG-' || $1 || '-%'`, period).Scan(&issued, &numbers))
	require.Equal(t, doomedOrganizations, issued)
	require.Equal(t, doomedOrganizations, numbers)
	var burned int
	require.NoError(t, c.db.QueryRow(t.Context(), `SELECT count(*) FROM credit_entries WHERE kind = 'burn' AND amount = 5`).Scan(&burned))
	require.Equal(t, doomedOrganizations, burned)
	require.Equal(t, sinks.Counts{Delivered: 3, NoCustomer: doomedOrganizations - 3}, c.deliveries(period).Counts)
	keys, _ := c.stripe.all()
	invoices := slices.DeleteFunc(keys, func(key string) bool { return strings.Count(key, "/") > 1 })
	require.Equal(t, []string{"tollgate/TG-" + period + "-000001", "tollgate/TG-" + period + "-000002", "tollgate/TG-" + period + "-000003"}, invoices)
}

// killIn kills a worker once the export's record says that it is in a stage, and makes
// sure that it died in it.
func killIn(t *testing.T, db *pgx.Conn, worker *process, stage billing.Stage) {
	t.Helper()
	now := func() (found billing.Stage) {
		require.NoError(t, db.QueryRow(t.Context(), `SELECT stage FROM exports ORDER BY requested_at DESC LIMIT 1`).Scan(&found))
		return found
	}
	require.Eventually(t, func() bool { return now() == stage }, stageWait, 5*time.Millisecond, "never %s", stage)
	worker.kill()
	require.Equal(t, stage, now(), "the worker was too fast")
}
