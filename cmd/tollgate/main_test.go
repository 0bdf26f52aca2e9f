package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/config"
)

// request is what the API was asked.
type request struct {
	line, key, body string
}

// shell runs command lines beside an API that the test plays.
type shell struct {
	t   *testing.T
	url string
	// terminal says that a person reads along.
	terminal bool
	// answer plays the API. The default answers everything with {}.
	answer func(w http.ResponseWriter, r *http.Request)
	asked  []request
}

// newShell makes one whose environment has keys, each named after its role, and the API's
// address, and nothing else of Tollgate's.
func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.asked = append(s.asked, request{
			line: r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), "/api/v1/"),
			key:  strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), body: string(body),
		})
		s.answer(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "TOLLGATE_") || name == "DATABASE_URL" {
			s.unset(name)
		}
	}
	for name, value := range map[string]string{
		"TOLLGATE_URL": s.url, "TOLLGATE_ADMIN_KEY": "admin", "TOLLGATE_FINANCE_KEY": "finance", "TOLLGATE_KEY": "tenant",
	} {
		t.Setenv(name, value)
	}
	return s
}

// unset takes a variable out of the environment until the test ends.
func (s *shell) unset(name string) {
	s.t.Helper()
	s.t.Setenv(name, "")
	require.NoError(s.t, os.Unsetenv(name))
}

// answers makes the API answer with documents, one after the other.
func (s *shell) answers(documents ...string) {
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if len(documents) == 0 {
			s.t.Errorf("nobody expected %s %s", r.Method, r.URL)
			return
		}
		_, _ = io.WriteString(w, documents[0])
		documents = documents[1:]
	}
}

// run runs a command line and returns its exit status and what it printed.
func (s *shell) run(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	var out, problems bytes.Buffer
	code = run(s.t.Context(), args, &output{Writer: &out, terminal: s.terminal}, &problems)
	return code, out.String(), problems.String()
}

// must runs a command line that succeeds, and returns what it printed.
func (s *shell) must(args ...string) string {
	s.t.Helper()
	code, stdout, stderr := s.run(args...)
	require.Zero(s.t, code, "%v: %s", args, stderr)
	require.Empty(s.t, stderr, "%v", args)
	return stdout
}

const (
	someID    = "0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a01"
	anotherID = "0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a02"
)

// A wrong command line ends with status 2 and names what is wrong, before anything is done.
func TestWrongCommandLines(t *testing.T) {
	s := newShell(t)
	for _, tt := range []struct {
		args, says string
	}{
		{"", "expected one of"},
		{"bogus", "bogus"},
		{"org", "expected one of"},
		{"org list --yaml", "--yaml"},
		{"org list --url localhost:8080", `--url is "localhost:8080"`},
		{"org list --key=", "--key is empty"},
		{"org create", "--name"},
		{"org show", "<organization>"},
		{"org show acme", "<organization>: \"acme\" is not an organization's ID, which is a UUID: `tollgate org list --search \"acme\"` finds it"},
		{"keys create --name x --organization acme", "--organization: \"acme\" is not an organization's ID"},
		{"rate --period 2026-10 --catalog main.go --organization acme", "--organization: \"acme\" is not an organization's ID"},
		{"credit void acme --note x", "<grant>: \"acme\" is not a credit grant's ID, which is a UUID: `tollgate credit list <organization>`"},
		{"flush acme", "[<instance>]: \"acme\" is not an instance's ID"},
		{"audit list --actor ada", "--actor: \"ada\" is not an API key's ID"},
		{"org customer " + someID + " paypal cus_1", `"stripe"`},
		{"keys create --name x", "--organization is needed for the role tenant"},
		{"keys create --name x --role admin --organization " + someID, "and for no other"},
		{"keys create --name x --role finance", "--owner is needed"},
		{"keys create --name x --role root", "--role"},
		{"usage history --meter m --from 2026-11-01", "--to"},
		{"usage history --meter m --from a --to b --granularity week", "--granularity"},
		{"export status --period 2026-13", "--period"},
		{"export start --focus 9.9", "--focus"},
		{"export start --timeout soon", "--timeout"},
		{"export deliveries --state lost", "--state"},
		{"export download --revision last", "--revision"},
		{"export explain", "<organization>"},
		{"rate --period 2026-10 --catalog /nowhere.yaml", "/nowhere.yaml"},
		{"rate --catalog ../../plans/default.yaml", "--period"},
		{"credit grant " + someID + " 5 --note x", "--currency"},
		{"credit grant " + someID + " 5 --currency USD --note x --expires-at tomorrow", "--expires-at"},
		{"credit void " + someID, "--note"},
		{"quarantine drop " + someID, "--note"},
		{"webhook create", "<to>"},
		{"events --limit many", "--limit"},
		{"migrate up", "--database-url"},
		{"reconcile --database-url mysql://u:secret@h/d", "--database-url begins with mysql://"},
		{"usage import --database-url postgres://u@localhost/d --max-errors 0 main.go", "--max-errors is 0"},
		{"dev --port 70000", "--port is 70000"},
		{"dev --postgres-port=-1", "--postgres-port is -1"},
		{"journal list /nowhere", "/nowhere"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := s.run(strings.Fields(tt.args)...)
			require.Equal(t, 2, code, stderr)
			require.Empty(t, stdout)
			require.True(t, strings.HasPrefix(stderr, "tollgate: "), stderr)
			require.Contains(t, stderr, tt.says)
			require.Contains(t, stderr, "See `tollgate --help`.")
			require.NotContains(t, stderr, "secret")
		})
	}
	require.Empty(t, s.asked)
}

// Each ID on the command line says of what it is: who gives something else is told where to find it.
func TestEachIDSaysWhatItIsOf(t *testing.T) {
	parser, err := kong.New(&commands{}, config.SecretFiles(), typeMappers())
	require.NoError(t, err)
	found := 0
	for _, leaf := range parser.Model.Leaves(false) {
		values := slices.Clone(leaf.Positional)
		for _, flags := range leaf.AllFlags(false) {
			for _, flag := range flags {
				values = append(values, flag.Value)
			}
		}
		for _, v := range values {
			if strings.HasSuffix(v.Target.Type().String(), "uuid.UUID") {
				found++
				require.Contains(t, idKinds, v.Tag.Get("of"), "%s %s", leaf.Path(), v.Name)
			}
		}
	}
	require.Greater(t, found, 25)
}

// A key must be there, by flag or by one of its variables, in their order.
func TestKeysComeFromTheirVariables(t *testing.T) {
	s := newShell(t)
	for _, tt := range []struct{ args, key string }{
		{"org list", "admin"},
		{"export list", "finance"},
		{"usage", "tenant"},
		{"usage show --key given", "given"},
		{"events", "tenant"},
		{"credit list " + someID, "tenant"},
		{"ready", ""},
	} {
		s.asked = nil
		s.must(strings.Fields(tt.args)...)
		require.Equal(t, tt.key, s.asked[0].key, tt.args)
	}
	s.unset("TOLLGATE_KEY")
	s.asked = nil
	s.must("events")
	require.Equal(t, "finance", s.asked[0].key, "what a key has depends on whose it is")
	for _, name := range []string{"TOLLGATE_ADMIN_KEY", "TOLLGATE_FINANCE_KEY"} {
		s.unset(name)
	}
	for _, args := range []string{"org list", "export list", "usage", "events"} {
		code, _, stderr := s.run(strings.Fields(args)...)
		require.Equal(t, 2, code)
		require.Contains(t, stderr, "--key", args)
	}
}

// What the API refuses, or doesn't answer, ends with status 1 and its own words.
func TestFailuresEndWithOne(t *testing.T) {
	s := newShell(t)
	for _, tt := range []struct {
		name   string
		status int
		body   string
		says   string
	}{
		{"problem", 404, `{"error":"not_found","message":"There is no organization 7."}`, "tollgate: There is no organization 7. (not_found, 404)\n"},
		{"no problem document", 502, "<html>", "tollgate: the API answered 502 Bad Gateway\n"},
		{"redirect that leads nowhere", 304, "", "tollgate: the API answered 304 Not Modified\n"},
		{"not JSON", 200, "<html>", "read the API's answer to GET /api/v1/organizations/" + someID},
		{"cut off", 200, `{"id":`, "unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}
			code, stdout, stderr := s.run("org", "show", someID)
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.says)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		code, _, stderr := s.run("org", "list", "--url", "http://127.0.0.1:1")
		require.Equal(t, 1, code)
		require.Contains(t, stderr, "tollgate: reach the API: ")
		require.NotContains(t, stderr, "admin", "keys are not shown")
	})
	t.Run("not ready", func(t *testing.T) {
		s.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
		code, stdout, _ := s.run("ready")
		require.Equal(t, 1, code)
		require.Empty(t, stdout)
	})
}

// A command that its own rules refuse asks nobody.
func TestRulesOfCommands(t *testing.T) {
	s := newShell(t)
	for args, says := range map[string]string{
		"org plan " + someID:                                                                "give either a plan or --keep",
		"org plan " + someID + " pro --keep":                                                "give either a plan or --keep",
		"reconcile --database-url postgres://localhost/d --from 2026-11-31":                 "--from: ",
		"reconcile --database-url postgres://localhost/d --to yesterday":                    "--to: ",
		"reconcile --database-url postgres://localhost/d --from 2026-11-02 --to 2026-11-01": "it must not be before --from, which is 2026-11-02",
		"export diff 1 2 --period 2026-10 --key=":                                           "--key is empty",
		"export diff /nowhere 2 --period 2026-10":                                           "/nowhere",
		"export verify --offline " + t.TempDir():                                            "read the manifest",
		"journal show main.go":                                                              "is not named as a journal segment",
	} {
		code, stdout, stderr := s.run(strings.Fields(args)...)
		require.Equal(t, 1, code, args)
		require.Empty(t, stdout, args)
		require.Contains(t, stderr, says, args)
	}
	require.Empty(t, s.asked)
}

// TestEverySecretMayBeInAFile holds that no command has a secret which must be a flag.
func TestEverySecretMayBeInAFile(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.TypeMapper(reflect.TypeFor[time.Time](), kong.MapperFunc(decodeTime)))
	require.NoError(t, err)
	found := 0
	for _, command := range parser.Model.Leaves(false) {
		for _, flags := range command.AllFlags(false) {
			for _, flag := range flags {
				looksSecret := flag.PlaceHolder == "KEY" || flag.PlaceHolder == "KEYS" || flag.PlaceHolder == "PASSWORD" || strings.HasSuffix(flag.Name, "database-url")
				require.Equal(t, looksSecret, flag.Tag.Has("secret"), "%s --%s", command.Path(), flag.Name)
				require.False(t, looksSecret && len(flag.Envs) == 0, "%s --%s", command.Path(), flag.Name)
				if looksSecret {
					found++
				}
			}
		}
	}
	require.Positive(t, found)

	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("tg_admin_filed\n"), 0o600))
	s := newShell(t)
	t.Setenv("TOLLGATE_ADMIN_KEY", "")
	t.Setenv("TOLLGATE_ADMIN_KEY_FILE", path)
	s.must("keys", "list")
	require.Equal(t, "tg_admin_filed", s.asked[0].key)
}

// TestMigrationsNeedTLS holds that the owner's password crosses no network in the clear.
func TestMigrationsNeedTLS(t *testing.T) {
	s := newShell(t)
	for _, command := range []string{"migrate up", "migrate down", "migrate status", "keys first-admin", "reconcile"} {
		code, _, stderr := s.run(append(strings.Fields(command), "--database-url", "postgres://u:secret@db.example/d?connect_timeout=1")...)
		require.NotZero(t, code, command)
		require.Contains(t, stderr, "--database-url may reach db.example without TLS", command)
		require.NotContains(t, stderr, "secret", command)
	}
}
