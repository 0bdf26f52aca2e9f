package pgstore_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/sinks"
)

// withSetting returns a URL whose sessions begin with a setting, as one of a pooler's does in which somebody has set it.
func withSetting(t *testing.T, database, setting string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	query := u.Query()
	query.Set("options", "-c "+setting)
	// Postgres takes a plus sign as it is.
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return u.String()
}

// seesItself has every write of a customer fail in a transaction that sees another organization.
func (f *fixture) seesItself() {
	f.exec(`CREATE FUNCTION sees_itself() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF EXISTS (SELECT FROM organizations WHERE id <> NEW.organization_id) THEN RAISE 'sees others'; END IF;
		RETURN NEW;
	END $$`)
	f.exec(`CREATE TRIGGER sees_itself BEFORE INSERT OR UPDATE ON organization_customers FOR EACH ROW EXECUTE FUNCTION sees_itself()`)
}

func customer(organization uuid.UUID, id string) sinks.Customer {
	return sinks.Customer{Organization: organization, Sink: sinks.Stripe, ExternalID: id}
}

// A session in which somebody has set a scope, or another tenant, opens nothing to the next transaction.
func TestSessionsOfOthersOpenNothing(t *testing.T) {
	f := newFixture(t)
	tenants := f.tenants(2)
	f.seesItself()
	for _, setting := range []string{"tollgate.scope=platform", "tollgate.organization_id=" + tenants[1].String(), "tollgate.scope=nonsense"} {
		store := f.open(pgstore.Config{URL: withSetting(t, f.db.APIURL, setting)})
		require.NoError(t, store.PutCustomer(t.Context(), customer(tenants[0], "cus_"+setting)), setting)
		found, err := store.Organization(t.Context(), tenants[0])
		require.NoError(t, err, setting)
		require.Equal(t, tenants[0], found.ID)
	}
}

// Many tenants at once, on sessions that they share, see their own rows alone.
func TestTenantsThatShareSessionsSeeTheirOwn(t *testing.T) {
	f := newFixture(t)
	tenants := f.tenants(40)
	f.seesItself()
	store := f.open(pgstore.Config{URL: storeURL(t, f.db), MaxConns: 8})
	var group errgroup.Group
	for n, id := range tenants {
		group.Go(func() error {
			for i := range 10 {
				if err := store.PutCustomer(t.Context(), customer(id, "cus_"+strconv.Itoa(n)+"_"+strconv.Itoa(i))); err != nil {
					return err
				}
				// The platform's transactions are between them.
				if _, err := store.ListKeys(t.Context(), nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
}

// ofSessions is SQL whose effect outlives its transaction, in the session of whoever comes next.
var ofSessions = []*regexp.Regexp{
	regexp.MustCompile(`(?i)set_config\([^()]*,\s*false\s*\)`),
	regexp.MustCompile("(?i)[`\"(;]\\s*(SET|RESET)\\s+(?:SESSION\\s+|ROLE\\s+|TIME ZONE\\s+|\\w+(?:\\.\\w+)?\\s*(?:=|TO\\b))"),
	regexp.MustCompile(`(?i)\bpg_(?:try_)?advisory_(?:un)?lock(?:_shared|_all)?\b`),
	regexp.MustCompile(`(?i)\bCREATE\s+(?:LOCAL\s+|GLOBAL\s+)?TEMP(?:ORARY)?\b`),
	regexp.MustCompile(`(?i)\bDECLARE\s+\w+\s+(?:\w+\s+)*CURSOR\s+WITH\s+HOLD\b`),
	regexp.MustCompile("[`\"]\\s*(?:PREPARE|DEALLOCATE|DISCARD|LISTEN|UNLISTEN|LOAD)\\b"),
	regexp.MustCompile(`(?i)\bcurrval\(|\blastval\(`),
}

// Nothing of the store's lives in a session, apart from what listens, on a connection that is kept for it.
func TestNothingIsLeftInASession(t *testing.T) {
	listens := map[string]bool{"listen.go": true, "sessions.go": true}
	looked := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "pooler") {
			return err
		}
		if ext := filepath.Ext(path); ext != ".go" && ext != ".sql" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		looked++
		for _, pattern := range ofSessions {
			for _, found := range pattern.FindAllString(string(source), -1) {
				require.True(t, listens[path] && strings.Contains(found, "LISTEN"), "%s: %q outlives its transaction", path, found)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, looked, 50)
	for _, leak := range []string{
		"\"SET ROLE x\"", "`SET tollgate.scope = 'platform'`", "SELECT set_config('tollgate.scope', $1, false)", "SELECT pg_advisory_lock(1)",
		"SELECT pg_try_advisory_lock(1)", "CREATE TEMP TABLE x ()", "`LISTEN x`", "\"begin; SET search_path TO x\"",
	} {
		require.Condition(t, func() bool {
			for _, pattern := range ofSessions {
				if pattern.MatchString(leak) {
					return true
				}
			}
			return false
		}, leak)
	}
}

// A URL asks for a way of executing queries that works, or for none.
func TestExecModes(t *testing.T) {
	f := newFixture(t)
	for mode, works := range map[string]bool{
		"cache_statement": true, "cache_describe": true, "describe_exec": false, "exec": false, "simple_protocol": false,
	} {
		store, err := pgstore.Open(t.Context(), pgstore.Config{URL: f.db.APIURL + "&default_query_exec_mode=" + mode})
		if works {
			require.NoError(t, err, mode)
			store.Close()
			continue
		}
		require.ErrorIs(t, err, pgstore.ErrExecMode, mode)
	}
}

// What somebody else left in a session that a pooler hands out changes nothing: pg_dump through the same
// pool empties search_path and turns row-level security off.
func TestSessionsOfOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	s := f.open(pgstore.Config{URL: withSetting(t, f.db.APIURL, "search_path= -c row_security=off")})
	require.NoError(t, s.CheckSchemaVersion(t.Context()))
	require.NoError(t, s.CheckSchema(t.Context()))
	found, err := s.Organization(t.Context(), o.ID)
	require.NoError(t, err)
	require.Equal(t, "Acme", found.Name)
	_, err = s.Reconcile(t.Context(), 1, 2)
	require.NoError(t, err, "as the platform, in a snapshot")
	_, err = s.ListEvents(t.Context(), o.ID, "", uuid.Nil, 10)
	require.NoError(t, err, "as a tenant")
	_, err = s.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Beta", Plan: "free"})
	require.NoError(t, err, "with the audit's triggers")
}

// Changes are heard of where the same database is listened to, and nowhere else.
func TestCheckListen(t *testing.T) {
	f, other := newFixture(t), newFixture(t)
	require.NoError(t, f.CheckListen(t.Context()))
	deaf := f.open(pgstore.Config{URL: f.db.APIURL, ListenURL: other.db.APIURL})
	require.ErrorIs(t, deaf.CheckListen(t.Context()), pgstore.ErrListen)
	_, err := pgstore.Open(t.Context(), pgstore.Config{URL: f.db.APIURL, ListenURL: "postgres://h:x/d"})
	require.ErrorContains(t, err, "ListenURL")
}
