package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// TestOperatorsCommands goes through what operators type, and through what they mistype.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	// So long an interval that only `tollgate flush` can have flushed.
	api := s.startAPI("TOLLGATE_FLUSH_INTERVAL=5m")
	acme := s.newTenant("Acme", "free")

	step(t, "organizations are listed and changed")
	var organizations []struct {
		ID   uuid.UUID `json:"id"`
		Name string    `json:"name"`
		Plan string    `json:"plan"`
	}
	s.decode(s.tollgate("org", "list"), &organizations)
	require.Len(t, organizations, 1)
	require.Equal(t, "Acme", organizations[0].Name)
	s.tollgate("org", "set", acme.id.String(), "--name", "Acme & Co", "--plan", "pro")
	require.Contains(t, s.tollgate("org", "show", acme.id.String()), `"Acme \u0026 Co"`)

	require.Eventually(t, func() bool {
		_, answer := api.call(http.MethodPost, "/api/v1/usage", acme.key, map[string]any{"meter": "simulations", "quantity": 6_000})
		return answer["over_limit"] == true
	}, patience, 10*time.Millisecond, "the new plan is in force")
	s.environment = append(s.environment, "TOLLGATE_KEY="+acme.key)
	require.Contains(t, s.tollgate("usage"), `"simulations"`)

	step(t, "an instance is flushed")
	var flushed []struct {
		Rows int `json:"rows"`
	}
	require.Eventually(t, func() bool {
		out, err := s.try("flush")
		if err != nil {
			return false
		}
		s.decode(out, &flushed)
		return len(flushed) == 1
	}, 20*time.Second, 100*time.Millisecond, "the flush loop takes an update")
	today := calendar.DayOf(time.Now()).String()
	require.Regexp(t, `"value": [1-9]`, s.tollgate("usage", "history", "--meter", "simulations", "--from", today, "--to", today))

	step(t, "a key is revoked")
	var keys []struct {
		ID uuid.UUID `json:"id"`
	}
	s.decode(s.tollgate("keys", "list", "--organization", acme.id.String()), &keys)
	require.Len(t, keys, 1)
	s.tollgate("keys", "revoke", keys[0].ID.String())
	require.Eventually(t, func() bool {
		status, _ := api.call(http.MethodGet, "/api/v1/usage", acme.key, nil)
		return status == http.StatusUnauthorized
	}, patience, 10*time.Millisecond, "a revoked key stops working")

	s.requireJournalCommands(api)
	s.requireCommandsSayWhatIsNotThere()

	step(t, "what is mistyped is refused")
	for _, wrong := range []struct {
		args []string
		says string
	}{
		{[]string{"keys", "first-admin"}, "there is an admin key that works"},
		{[]string{"keys", "create", "--role", "tenant", "--name", "x"}, "--organization is needed"},
		{[]string{"org", "create", "--name", "New", "--plan", "platinum"}, "plan"},
		{[]string{"org", "create", "--name", "New", "--url", "localhost"}, "--url"},
		{[]string{"org", "show", "7"}, "is not an organization's ID, which is a UUID"},
		{[]string{"export", "status", "--period", "2026-13"}, "YYYY-MM"},
		{[]string{"export", "status", "--period", "2001-01"}, "--key"},
		{[]string{"migrate", "down"}, "--database-url"},
		{[]string{"bogus"}, "bogus"},
	} {
		out, err := s.try(wrong.args...)
		require.Error(t, err, "%v", wrong.args)
		require.Contains(t, out, wrong.says, "%v", wrong.args)
	}
}

// requireCommandsSayWhatIsNotThere holds that each command that is given an identity says
// which one isn't there.
func (s *system) requireCommandsSayWhatIsNotThere() {
	s.t.Helper()
	id, finance := uuid.NewString(), s.newKey("finance")
	nobody := "There is no organization " + id + ". (not_found, 404)"
	for _, absent := range []struct {
		args []string
		says string
	}{
		{[]string{"org", "show", id}, nobody},
		{[]string{"org", "set", id, "--name", "x"}, nobody},
		{[]string{"org", "plan", id, "pro"}, nobody},
		{[]string{"org", "end", id}, nobody},
		{[]string{"org", "customer", id, "stripe", "cus_x"}, nobody},
		{[]string{"keys", "create", "--name", "x", "--organization", id}, nobody},
		{[]string{"keys", "list", "--organization", id}, nobody},
		{[]string{"keys", "revoke", id}, "There is no API key " + id + "."},
		{[]string{"credit", "grant", id, "1.00", "--currency", "USD", "--note", "x", "--key", finance}, nobody},
		{[]string{"credit", "void", id, "--note", "x", "--key", finance}, "There is no credit grant " + id + "."},
		{[]string{"quarantine", "show", id}, "There is no quarantined usage " + id + "."},
		{[]string{"quarantine", "apply", id, "--note", "x"}, "There is no quarantined usage " + id + "."},
		{[]string{"webhook", "deliveries", id, "--key", s.adminKey}, "There is no webhook endpoint " + id + "."},
		{[]string{"webhook", "redeliver", id, id, "--key", s.adminKey}, "There is no webhook endpoint " + id + "."},
		{[]string{"export", "status", "--period", "2001-01", "--key", finance}, "There is no export 2001-01."},
		{[]string{"export", "status", "--period", "2001-01", "--revision", "2", "--key", finance}, "There is no export 2001-01 in revision 2."},
		{[]string{"export", "download", "--period", "2001-01", "--key", finance}, "There is no export 2001-01."},
		{[]string{"export", "explain", "--period", "2001-01", "--key", finance, id}, "There is no export 2001-01."},
		{[]string{"export", "approve", "--period", "2001-01", "--key", finance}, "There is no export 2001-01."},
		{[]string{"flush", id}, "There is no instance " + id + "."},
	} {
		out, err := s.try(absent.args...)
		require.Error(s.t, err, "%v", absent.args)
		require.Contains(s.t, out, absent.says, "%v", absent.args)
	}
}

// requireJournalCommands holds that a journal can be looked at while its API writes it.
func (s *system) requireJournalCommands(api *process) {
	s.t.Helper()
	other := s.newTenant("Journalled", "free")
	status, _ := api.call(http.MethodPost, "/api/v1/usage", other.key, map[string]any{"meter": "evaluations", "quantity": 7})
	require.Equal(s.t, http.StatusOK, status)
	var listed []struct {
		Records int64  `json:"records"`
		Path    string `json:"path"`
	}
	s.decode(s.tollgate("journal", "list", api.journal), &listed)
	require.NotEmpty(s.t, listed)
	shown := ""
	for _, one := range listed {
		shown += s.tollgate("journal", "show", one.Path)
	}
	require.Contains(s.t, shown, `"organization_id":"`+other.id.String()+`","meter":"evaluations"`)
	require.Contains(s.t, shown, `"quantity":7`)
	require.Contains(s.t, shown, `"lease":"day"`)
}

// TestProgramsRefuseWrongSettings starts the programs with settings that can't work.
func TestProgramsRefuseWrongSettings(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	empty := pgtest.NewEmptyDatabase(t)
	for _, wrong := range []struct{ program, setting, says string }{
		{"api", "TOLLGATE_DATABASE_URL=mysql://localhost/x", "--database-url begins with mysql://"},
		{"api", "TOLLGATE_DATABASE_URL=" + empty.URL, "run `tollgate migrate`"},
		{"worker", "TOLLGATE_DATABASE_URL=postgres://u:p@db.example/d", "--database-url may reach db.example without TLS"},
		{"worker", "TOLLGATE_DATABASE_URL_FILE=/nowhere", "TOLLGATE_DATABASE_URL and TOLLGATE_DATABASE_URL_FILE are set"},
		{"api", "TOLLGATE_FLUSH_INTERVAL=1ms", "--flush-interval is 1ms: it must be 100ms to 5m"},
		{"api", "TOLLGATE_UPSTREAM=localhost:9000", "--upstream"},
		{"api", "TOLLGATE_CATALOG=/nowhere.yaml", "--catalog"},
		{"api", "TOLLGATE_DURABILITY=tape", "--durability"},
		{"api", "TOLLGATE_LOST_AFTER=1s", "--lost-after is 1s"},
		{"api", "TOLLGATE_JOURNAL_DIR=/dev/null/journal", "--journal-dir"},
		{"api", "TOLLGATE_GATEWAY_RULES=/nowhere.yaml", "--gateway-rules"},
		{"worker", "TOLLGATE_BLOB_URL=blobs", "--blob-url"},
		{"worker", "TOLLGATE_WORKER_LISTEN=9090", "host:port"},
		{"worker", "TOLLGATE_LOG_LEVEL=loud", "--log-level"},
	} {
		listen := map[string]string{"api": "TOLLGATE_LISTEN", "worker": "TOLLGATE_WORKER_LISTEN"}[wrong.program]
		p := s.launch(wrong.program, listen, freeAddress(t), wrong.setting, endAtOnce())
		select {
		case <-p.ended:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s goes on with %s: %s", wrong.program, wrong.setting, p.log.tail(10))
		}
		require.NotZero(t, p.command.ProcessState.ExitCode(), wrong.setting)
		require.Contains(t, p.log.String(), wrong.says, wrong.setting)
	}
}
