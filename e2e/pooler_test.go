//go:build pooler

// The tag is for PgBouncer, which has to be installed: make test-pooler.

package e2e_test

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// poolerSessions is fewer than one API has connections.
const poolerSessions = 4

// newPooledSystem is an installation behind a pooler: every program connects through it, and listens past it where
// that has to be.
func newPooledSystem(t *testing.T, mode devstack.PoolMode, sessions int) (*system, *pgtest.Pooler) {
	t.Helper()
	database := pgtest.NewDatabase(t)
	s := newSystem(t, database, temporaltest.Register(t))
	pooler := pgtest.NewPooler(t, database, mode, sessions)
	s.environment = append(s.environment, "TOLLGATE_DATABASE_URL="+pooler.URL(t, database.APIURL))
	if mode == devstack.PoolTransaction {
		s.environment = append(s.environment, "TOLLGATE_LISTEN_DATABASE_URL="+database.APIURL)
	}
	return s, pooler
}

// TestPoolerMonth goes through a month behind a pooler: limits to the unit, a key that is revoked, what another replica
// changes, and the close.
func TestPoolerMonth(t *testing.T) {
	t.Parallel()
	for mode, sessions := range map[devstack.PoolMode]int{devstack.PoolTransaction: poolerSessions, devstack.PoolSession: 80} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s, pooler := newPooledSystem(t, mode, sessions)
			s.startWorker()
			first, second := s.startAPI(), s.startAPI()
			s.financeKey = s.newKey("finance")
			free, pro := s.newTenant("Free", "free"), s.newTenant("Pro", "enterprise")
			use := func(api *process, key string, quantity int) int {
				status, _ := api.call(http.MethodPost, "/api/v1/usage", key, map[string]any{"meter": "evaluations", "quantity": quantity})
				return status
			}

			step(t, "the limit of 1,000 holds to the unit, at two replicas")
			admitted := 0
			for i := range 1_020 {
				if use([]*process{first, second}[i%2], free.key, 1) == http.StatusOK {
					admitted++
				}
			}
			require.Equal(t, 1_000, admitted)
			require.Equal(t, http.StatusPaymentRequired, use(first, free.key, 1))

			step(t, "another plan is in force at once, and a key that is revoked is refused")
			s.tollgate("org", "set", free.id.String(), "--plan", "enterprise")
			require.Eventually(t, func() bool { return use(first, free.key, 1) == http.StatusOK }, patience, 10*time.Millisecond)
			gone := s.newKey("tenant", "--organization", pro.id.String())
			require.Equal(t, http.StatusOK, use(second, gone, 1))
			s.revokeNewest(pro)
			began := time.Now()
			require.Eventually(t, func() bool { return use(second, gone, 0) == http.StatusUnauthorized }, patience, 10*time.Millisecond)
			t.Logf("a revoked key is refused after %s", time.Since(began).Round(time.Millisecond))

			step(t, "it is flushed and exported")
			require.Equal(t, http.StatusOK, use(first, pro.key, 76))
			s.awaitFlushed(free.id, "evaluations", 1_001)
			s.awaitFlushed(pro.id, "evaluations", 77)
			period := calendar.PeriodOf(time.Now()).String()
			s.tollgate("export", "start", "--period", period, "--json")
			require.Equal(t, billing.StageDone, s.exportStatus(period).Stage)
			exported := s.download(period)
			require.EqualValues(t, 1_001, exported[free.id.String()+" evaluations"])
			require.EqualValues(t, 77, exported[pro.id.String()+" evaluations"])
			first.stop()
			second.stop()
			s.requireReconciled()
			require.NotContains(t, first.log.String()+second.log.String(), "SQLSTATE")
			if mode == devstack.PoolTransaction {
				s.requireClean(pooler, sessions)
			}
		})
	}
}

// requireClean holds that nothing of the programs' is left in any session of the pooler.
func (s *system) requireClean(pooler *pgtest.Pooler, sessions int) {
	s.t.Helper()
	seen := map[uint32]bool{}
	for range sessions {
		// Each keeps its session until all have been seen.
		conn, err := pgx.Connect(s.t.Context(), pooler.URL(s.t, s.database.APIURL))
		require.NoError(s.t, err)
		defer func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) }()
		var backend uint32
		var scope, organization, left string
		_, err = conn.Exec(s.t.Context(), "BEGIN")
		require.NoError(s.t, err)
		require.NoError(s.t, conn.QueryRow(s.t.Context(), `SELECT pg_backend_pid(), coalesce(current_setting('tollgate.scope', true), ''),
			coalesce(current_setting('tollgate.organization_id', true), ''),
			concat_ws(', ',
				(SELECT string_agg('statement ' || name, ', ') FROM pg_prepared_statements),
				(SELECT string_agg('channel ' || channel, ', ') FROM pg_listening_channels() AS channel),
				(SELECT string_agg('lock ' || objid, ', ') FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
				(SELECT string_agg('setting ' || name, ', ') FROM pg_settings WHERE source = 'session'
					AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')))`,
			pgx.QueryExecModeExec).Scan(&backend, &scope, &organization, &left))
		require.Empty(s.t, scope+organization+left)
		seen[backend] = true
	}
	require.Len(s.t, seen, sessions)
}

// revokeNewest revokes the newest key of a tenant.
func (s *system) revokeNewest(of tenant) {
	s.t.Helper()
	var id string
	require.NoError(s.t, s.owner().QueryRow(s.t.Context(), `SELECT id::text FROM api_keys WHERE organization_id = $1 ORDER BY id DESC LIMIT 1`, of.id).Scan(&id))
	s.tollgate("keys", "revoke", id)
}

// poolerKills is how often the pooler ends under load.
func poolerKills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TOLLGATE_POOLER_KILLS")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// TestPoolerIsKilledUnderLoad kills and restarts the pooler. Nobody is refused, and what was acknowledged is stored once.
func TestPoolerIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	s, pooler := newPooledSystem(t, devstack.PoolTransaction, poolerSessions)
	s.startWorker()
	api := s.startAPI()
	tenant := s.newTenant("Enterprise", "enterprise")
	load := startTraffic(t, api, tenant)
	for i := range poolerKills(t) {
		time.Sleep(2 * flushInterval)
		if i%2 == 0 {
			pooler.Kill(t)
		} else {
			pooler.Stop(t)
		}
		time.Sleep(flushInterval)
		pooler.Start(t)
	}
	time.Sleep(2 * flushInterval)
	acknowledged := load.end()
	require.Positive(t, acknowledged)
	require.Zero(t, load.failed.Load(), "the pooler is not on the hot path")
	s.awaitFlushed(tenant.id, "evaluations", acknowledged)
	api.stop()
	require.Equal(t, acknowledged, s.recorded(tenant))
	s.requireReconciled()
	t.Logf("%d acknowledged", acknowledged)
}

// TestFailoverBehindAPooler points the pooler at a standby under load, which is promoted later.
func TestFailoverBehindAPooler(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewServer(t)
	database := primary.NewDatabase(t)
	s := newSystem(t, database, temporaltest.Register(t))
	standby := primary.NewStandby(t)
	copied := standby.Of(database)
	pooler := pgtest.NewPooler(t, database, devstack.PoolTransaction, poolerSessions, "server_lifetime = 1")
	listen := pgtest.Hosts(t, database.APIURL, copied.APIURL)
	s.environment = append(s.environment, "TOLLGATE_DATABASE_URL="+pooler.URL(t, database.APIURL), "TOLLGATE_LISTEN_DATABASE_URL="+listen)

	step(t, "a start on the standby is refused, one on both hosts is not")
	s.requireRefused("api", "read-only standby", "TOLLGATE_DATABASE_URL="+copied.APIURL, "TOLLGATE_LISTEN_DATABASE_URL="+copied.APIURL)
	s.requireRefused("worker", "read-only standby", "TOLLGATE_DATABASE_URL="+copied.APIURL)
	s.startWorker()
	api, direct := s.startAPI(), s.startAPI("TOLLGATE_DATABASE_URL="+pgtest.Hosts(t, copied.APIURL, database.APIURL))
	tenant, other := s.newTenant("Enterprise", "enterprise"), s.newTenant("Other", "enterprise")
	s.awaitCopied(copied, 2)

	step(t, "the pooler is pointed at the standby, before it is promoted")
	load, more := startTraffic(t, api, tenant), startTraffic(t, direct, other)
	time.Sleep(2 * flushInterval)
	pooler.Follow(t, copied)
	time.Sleep(4 * flushInterval)
	primary.Stop(t)
	standby.Promote(t)
	step(t, "the standby is the primary")
	time.Sleep(2 * flushInterval)
	acknowledged, others := load.end(), more.end()
	require.Zero(t, load.failed.Load()+more.failed.Load(), "Postgres is not on the hot path")
	s.database = copied
	s.awaitFlushed(tenant.id, "evaluations", acknowledged)
	s.awaitFlushed(other.id, "evaluations", others)
	step(t, "everything is flushed")
	api.stop()
	direct.stop()
	require.Contains(t, api.log.String(), "25006", "the pooler did lead to a standby meanwhile")
	require.Equal(t, acknowledged, s.recorded(tenant))
	require.Equal(t, others, s.recorded(other))
	s.requireReconciled()
}

// awaitCopied waits until a standby has so many organizations.
func (s *system) awaitCopied(standby *pgtest.Database, organizations int) {
	s.t.Helper()
	on := &system{t: s.t, database: standby}
	conn := on.owner()
	require.Eventually(s.t, func() bool {
		var n int
		require.NoError(s.t, conn.QueryRow(context.Background(), `SELECT count(*) FROM organizations`).Scan(&n))
		return n == organizations
	}, patience, 50*time.Millisecond)
}

// requireRefused starts a program that must end at once, and say why.
func (s *system) requireRefused(program, says string, settings ...string) {
	s.t.Helper()
	listen := map[string]string{"api": "TOLLGATE_LISTEN", "worker": "TOLLGATE_WORKER_LISTEN"}[program]
	p := s.launch(program, listen, freeAddress(s.t), append(settings, endAtOnce())...)
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("%s goes on with %s: %s", program, settings, p.log.tail(10))
	}
	require.NotZero(s.t, p.command.ProcessState.ExitCode(), settings)
	require.Contains(s.t, p.log.String(), says, settings)
}

// TestPoolerRefusals starts the programs behind poolers that can't work, or not as they are set.
func TestPoolerRefusals(t *testing.T) {
	t.Parallel()
	database, another := pgtest.NewDatabase(t), pgtest.NewDatabase(t)
	s := newSystem(t, database, temporaltest.Register(t))
	transaction := pgtest.NewPooler(t, database, devstack.PoolTransaction, poolerSessions)
	pooled := transaction.URL(t, database.APIURL)
	statement := pgtest.NewPooler(t, database, devstack.PoolStatement, poolerSessions).URL(t, database.APIURL)
	for _, wrong := range []struct{ program, database, listen, says string }{
		{"api", pooled, "", "--listen-database-url (TOLLGATE_LISTEN_DATABASE_URL) isn't set"},
		{"api", pooled, pooled, "--listen-database-url (TOLLGATE_LISTEN_DATABASE_URL) must be Postgres's own address"},
		{"api", pooled, another.APIURL, "another database"},
		{"api", statement, database.APIURL, "statement mode"},
		{"worker", statement, "", "statement mode"},
		{"api", pooled + "&statement_timeout=1000", database.APIURL, "ignore_startup_parameters"},
		{"worker", pooled + "&options=-c%20lock_timeout%3D1s", "", "ignore_startup_parameters"},
		{"api", pooled + "&default_query_exec_mode=cache_statement", database.APIURL, "leave cache_statement out"},
		{"worker", pooled + "&default_query_exec_mode=exec", "", "default_query_exec_mode"},
	} {
		s.requireRefused(wrong.program, wrong.says, "TOLLGATE_DATABASE_URL="+wrong.database, "TOLLGATE_LISTEN_DATABASE_URL="+wrong.listen)
	}

	for _, command := range []string{"up", "status", "down"} {
		said, err := s.try("migrate", command, "--database-url", transaction.URL(t, database.URL))
		require.Error(t, err)
		require.Contains(t, said, "transaction mode", command)
	}
	session := pgtest.NewPooler(t, database, devstack.PoolSession, poolerSessions).URL(t, database.URL)
	require.True(t, strings.HasPrefix(s.tollgate("migrate", "up", "--database-url", session), "The schema is up to date"))
}
