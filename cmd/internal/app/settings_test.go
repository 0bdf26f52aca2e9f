package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/contrib/envconfig"

	"github.com/riverline/tollgate/internal/config"
)

// withoutSettings takes everything of Tollgate's out of the environment until the test ends.
func withoutSettings(t *testing.T) {
	t.Helper()
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "TOLLGATE_") || name == "DATABASE_URL" {
			t.Setenv(name, "")
			require.NoError(t, os.Unsetenv(name))
		}
	}
}

// needed are the settings that have no default.
const needed = "--database-url=postgres://u:secret@localhost/d --blob-url=file:///blobs "

// parse reads settings as Main does.
func parse(settings interface{ Validate() error }, args string) error {
	parser, err := kong.New(settings, config.SecretFiles())
	if err != nil {
		return err
	}
	if _, err := parser.Parse(strings.Fields(args)); err != nil {
		return err
	}
	return settings.Validate()
}

func TestDefaultsAreValid(t *testing.T) {
	withoutSettings(t)
	var api APIConfig
	require.NoError(t, parse(&api, needed))
	require.Equal(t, 10*time.Second, api.FlushInterval)
	require.Equal(t, []int{80, 100}, api.UsageThresholds)
	require.Equal(t, "process admit allow", strings.Join([]string{api.Durability, api.JournalFull, api.LeasesAway}, " "))
	require.Equal(t, int32(16), api.MaxConnections)
	require.Equal(t, "127.0.0.1:9091", api.MetricsListen)
	require.NoError(t, parse(&APIConfig{}, needed+"--metrics-listen="))
	require.ErrorContains(t, parse(&APIConfig{}, needed+"--metrics-listen=9091"), `--metrics-listen is "9091": it must be host:port`)
	var worker WorkerConfig
	require.NoError(t, parse(&worker, needed))
	require.Equal(t, "127.0.0.1:9090", worker.Listen)
	require.NoError(t, parse(&WorkerConfig{}, needed+"--build-id=v1.2.3-rc.1"))
	require.ErrorContains(t, parse(&WorkerConfig{}, needed+"--build-id=v1:2"), `--build-id is "v1:2": it must be`)
	require.ErrorContains(t, parse(&WorkerConfig{}, needed+"--build-id=v1 --deployment-name=toll.gate"), `--deployment-name is "toll.gate": it must be`)
}

// Keys for what Temporal keeps are in a file, as other secrets are.
func TestTemporalKeysAreInAFile(t *testing.T) {
	withoutSettings(t)
	path := filepath.Join(t.TempDir(), "keys")
	t.Setenv("TOLLGATE_TEMPORAL_KEYS_FILE", path)
	require.NoError(t, os.WriteFile(path, []byte("2026:"+strings.Repeat("A", 43)+"=\n"), 0o600))
	var worker WorkerConfig
	require.NoError(t, parse(&worker, needed))
	codec, err := worker.Codec()
	require.NoError(t, err)
	require.NotNil(t, codec)
	require.NoError(t, os.WriteFile(path, []byte("2026:hunter2"), 0o600))
	err = parse(&WorkerConfig{}, needed)
	require.ErrorContains(t, err, `--temporal-keys: key "2026" must be 32 bytes in base64`)
	require.NotContains(t, err.Error(), "hunter2")
}

// The environment says what flags don't.
func TestSettingsComeFromTheEnvironment(t *testing.T) {
	withoutSettings(t)
	t.Setenv("TOLLGATE_DATABASE_URL", "postgres://h/d?sslmode=require")
	t.Setenv("TOLLGATE_LISTEN_DATABASE_URL", "postgres://direct/d?sslmode=verify-full")
	t.Setenv("TOLLGATE_BLOB_URL", "file:///blobs")
	t.Setenv("TOLLGATE_FLUSH_INTERVAL", "2s")
	t.Setenv("TOLLGATE_USAGE_THRESHOLDS", "50,90")
	t.Setenv("TOLLGATE_WEBHOOK_SCHEDULE", "0s,1m")
	var api APIConfig
	require.NoError(t, parse(&api, "--flush-interval 3s"))
	require.Equal(t, 3*time.Second, api.FlushInterval)
	require.Equal(t, "postgres://direct/d?sslmode=verify-full", api.ListenDatabaseURL)
	require.Equal(t, []int{50, 90}, api.UsageThresholds)
	require.Equal(t, []time.Duration{0, time.Minute}, api.WebhookSchedule)
	t.Setenv("TOLLGATE_FLUSH_INTERVAL", "1ms")
	require.ErrorContains(t, parse(&APIConfig{}, ""), "--flush-interval is 1ms")
}

// Where the network is trusted, a setting says so.
func TestPlaintextIsAllowedByASetting(t *testing.T) {
	withoutSettings(t)
	const remote = "--database-url=postgres://u:secret@db.example/d --listen-database-url=postgres://u:secret@db.example/d --blob-url=file:///b"
	require.Error(t, parse(&APIConfig{}, remote))
	require.NoError(t, parse(&APIConfig{}, remote+" --allow-plaintext-database"))
	t.Setenv("TOLLGATE_ALLOW_PLAINTEXT_DATABASE", "true")
	require.NoError(t, parse(&APIConfig{}, remote))
}

// Each secret may be in a file, so that none need be a flag.
func TestSecretsComeFromFiles(t *testing.T) {
	withoutSettings(t)
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	const blobs = "--blob-url=file:///b "
	t.Setenv("TOLLGATE_DATABASE_URL_FILE", file("postgres://u:s3cr3t@localhost/d\n"))
	t.Setenv("TOLLGATE_LISTEN_DATABASE_URL_FILE", file("postgres://u:s3cr3t@localhost/direct\r\n"))
	t.Setenv("TOLLGATE_STRIPE_KEY_FILE", file("sk_test_1"))
	var api APIConfig
	require.NoError(t, parse(&api, blobs))
	require.Equal(t, "postgres://u:s3cr3t@localhost/d", api.DatabaseURL)
	require.Equal(t, "postgres://u:s3cr3t@localhost/direct", api.ListenDatabaseURL)
	var worker WorkerConfig
	require.NoError(t, parse(&worker, blobs+"--database-url=postgres://localhost/flag"))
	require.Equal(t, "sk_test_1", worker.StripeKey)
	require.Equal(t, "postgres://localhost/flag", worker.DatabaseURL, "a flag says more than a file")

	t.Setenv("TOLLGATE_STRIPE_KEY", "")
	require.NoError(t, parse(&WorkerConfig{}, blobs), "an empty variable says nothing")
	t.Setenv("TOLLGATE_STRIPE_KEY", "sk_test_2")
	require.ErrorContains(t, parse(&WorkerConfig{}, blobs), "TOLLGATE_STRIPE_KEY and TOLLGATE_STRIPE_KEY_FILE are set: only one may be")
	require.NoError(t, os.Unsetenv("TOLLGATE_STRIPE_KEY"))
	for path, says := range map[string]string{
		"/nowhere": "TOLLGATE_STRIPE_KEY_FILE: open /nowhere", file(""): "must have a secret of 1 to", file("\n"): "must have a secret",
		t.TempDir(): "TOLLGATE_STRIPE_KEY_FILE: ", file(strings.Repeat("s3cr3t", 20_000)): "must have a secret",
	} {
		t.Setenv("TOLLGATE_STRIPE_KEY_FILE", path)
		err := parse(&WorkerConfig{}, blobs)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "s3cr3t")
	}
}

// TestEverySecretMayBeInAFile holds that no setting which is a secret lacks the tag.
func TestEverySecretMayBeInAFile(t *testing.T) {
	for _, settings := range []any{&APIConfig{}, &WorkerConfig{}} {
		parser, err := kong.New(settings)
		require.NoError(t, err)
		for _, flag := range parser.Model.Flags {
			looksSecret := flag.PlaceHolder == "KEY" || flag.PlaceHolder == "KEYS" || flag.PlaceHolder == "PASSWORD" || flag.PlaceHolder == "SECRET" || strings.HasSuffix(flag.Name, "database-url")
			require.Equal(t, looksSecret, flag.Tag.Has("secret"), flag.Name)
			require.False(t, looksSecret && len(flag.Envs) == 0, "%s must not be a flag alone", flag.Name)
		}
	}
}

// TestTemporalsKeyComesFromAFile holds that Temporal's own environment has the same.
func TestTemporalsKeyComesFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("secret\n"), 0o600))
	t.Setenv("TEMPORAL_API_KEY", "")
	t.Setenv("TEMPORAL_API_KEY_FILE", path)
	environment, err := config.NewEnvironment("TEMPORAL_API_KEY")
	require.NoError(t, err)
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: environment})
	require.NoError(t, err)
	require.NotNil(t, options.Credentials)
	t.Setenv("TEMPORAL_API_KEY_FILE", "/nowhere")
	_, err = config.NewEnvironment("TEMPORAL_API_KEY")
	require.ErrorContains(t, err, "TEMPORAL_API_KEY_FILE: open /nowhere")
}

// Each setting that can't work is named, with its rule, and no password is shown.
func TestWrongSettings(t *testing.T) {
	withoutSettings(t)
	for _, tt := range []struct {
		settings interface{ Validate() error }
		args     string
		says     string
	}{
		{&APIConfig{}, "--blob-url=file:///b", "--database-url"},
		{&APIConfig{}, "--database-url=postgres://h/d", "--blob-url"},
		{&APIConfig{}, needed + "--database-url=mysql://u:secret@h/d", "--database-url begins with mysql://"},
		{&APIConfig{}, needed + "--listen-database-url=mysql://u:secret@h/d", "--listen-database-url begins with mysql://"},
		{&APIConfig{}, needed + "--listen-database-url=localhost", "--listen-database-url must be a URL"},
		{&APIConfig{}, needed + "--database-url=postgres://u:secret@db.example/d", "--database-url may reach db.example without TLS"},
		{&WorkerConfig{}, needed + "--database-url=postgres://u:secret@10.1.2.3/d?sslmode=prefer", "--database-url may reach 10.1.2.3 without TLS"},
		{&APIConfig{}, needed + "--listen-database-url=postgres://u:secret@db.example/d", "--listen-database-url may reach db.example without TLS"},
		{&APIConfig{}, needed + "--max-connections 1", "--max-connections is 1"},
		{&APIConfig{}, needed + "--blob-url blobs", "--blob-url must be a URL"},
		{&APIConfig{}, needed + "--listen 8080", `--listen is "8080": it must be host:port`},
		{&APIConfig{}, needed + "--tls-cert tls.crt", "--tls-cert and --tls-key go together"},
		{&APIConfig{}, needed + "--tls-key tls.key", "--tls-cert and --tls-key go together"},
		{&APIConfig{}, needed + "--callers 8", "--callers is 8"},
		{&APIConfig{}, needed + "--max-delay 1ms", "--max-delay is 1ms"},
		{&APIConfig{}, needed + "--keys-away 1s", "--keys-away is 1s"},
		{&APIConfig{}, needed + "--credit-takes-two=-1", "--credit-takes-two is"},
		{&APIConfig{}, needed + "--credit-takes-two much", "--credit-takes-two is"},
		{&APIConfig{}, needed + "--tenant-requests=-1", "--tenant-requests is -1"},
		{&APIConfig{}, needed + "--gateway-body-mib 2000000", "--gateway-body-mib is 2000000"},
		{&APIConfig{}, needed + "--redate-after 0s", "--redate-after is 0s"},
		{&APIConfig{}, needed + "--body-timeout 0s", "--body-timeout is 0s"},
		{&APIConfig{}, needed + "--header-timeout 1h", "--header-timeout is 1h"},
		{&APIConfig{}, needed + "--upstream localhost:9000", "--upstream is"},
		{&APIConfig{}, needed + "--temporal-ui-url ftp://h", "--temporal-ui-url is"},
		{&APIConfig{}, needed + "--flush-interval 99ms", "--flush-interval is 99ms: it must be 100ms to 5m0s"},
		{&APIConfig{}, needed + "--flush-interval 301s", "--flush-interval is 5m1s"},
		{&APIConfig{}, needed + "--lost-after 49s", "--lost-after is 49s: it must be 50s to 24h0m0s"},
		{&APIConfig{}, needed + "--flush-interval 1m --lost-after 4m", "--lost-after is 4m0s: it must be 5m0s"},
		{&APIConfig{}, needed + "--lost-after 25h", "--lost-after is 25h0m0s"},
		{&APIConfig{}, needed + "--max-late 59s", "--max-late is 59s"},
		{&APIConfig{}, needed + "--max-late 841h", "--max-late is 841h0m0s: it must be 1m0s to 840h0m0s"},
		{&APIConfig{}, needed + "--max-ahead 2h", "--max-ahead is 2h0m0s"},
		{&APIConfig{}, needed + "--usage-thresholds 0", "--usage-thresholds has 0"},
		{&APIConfig{}, needed + "--usage-thresholds 80,101", "--usage-thresholds has 101"},
		{&APIConfig{}, needed + "--usage-thresholds 80,80", "--usage-thresholds has 80: each must be 1 to 100, and there once"},
		{&APIConfig{}, needed + "--drain-delay=-1s", "--drain-delay is -1s"},
		{&APIConfig{}, needed + "--shutdown-timeout 0s", "--shutdown-timeout is 0s"},
		{&APIConfig{}, needed + "--durability tape", "--durability must be one of"},
		{&APIConfig{}, needed + "--journal-full wait", "--journal-full must be one of"},
		{&APIConfig{}, needed + "--leases-away wait", "--leases-away must be one of"},
		{&APIConfig{}, needed + "--log-level loud", "--log-level must be one of"},
		{&APIConfig{}, needed + "--webhook-schedule 0s,169h", "--webhook-schedule is 169h0m0s"},
		{&WorkerConfig{}, needed + "--listen 9090", "--listen"},
		{&WorkerConfig{}, needed + "--stripe-url localhost", "--stripe-url is"},
		{&WorkerConfig{}, needed + "--webhook-schedule=-1s", "--webhook-schedule is -1s"},
	} {
		err := parse(tt.settings, tt.args)
		require.ErrorContains(t, err, tt.says, tt.args)
		require.NotContains(t, err.Error(), "secret", tt.args)
	}
	err := parse(&APIConfig{}, needed+"--flush-interval 1ms --max-ahead 2h")
	require.ErrorContains(t, err, "--flush-interval")
	require.ErrorContains(t, err, "--max-ahead", "all that is wrong is said at once")
}

// An instance is given up after five flushes at the least, and relies on its leases for less.
func TestWhenAnInstanceIsLost(t *testing.T) {
	for _, tt := range []struct{ interval, given, want time.Duration }{
		{10 * time.Second, 0, time.Minute},
		{time.Minute, 0, 5 * time.Minute},
		{time.Second, 5 * time.Second, 5 * time.Second},
	} {
		c := APIConfig{FlushInterval: tt.interval, LostAfter: tt.given}
		require.NoError(t, c.checkLostAfter())
		require.Equal(t, tt.want, c.lostAfter())
	}
}

// Statements go nowhere without a key.
func TestSinkNeedsAKey(t *testing.T) {
	require.Nil(t, sinkOf(config.Stripe{StripeURL: "http://localhost"}))
	require.NotNil(t, sinkOf(config.Stripe{StripeKey: "sk_test_1"}))
}

// What is started without a command line has the defaults of the flags: one source.
func TestDefaultAPIConfig(t *testing.T) {
	withoutSettings(t)
	defaults, err := DefaultAPIConfig()
	require.NoError(t, err)
	var parsed APIConfig
	require.NoError(t, parse(&parsed, needed))
	defaults.DatabaseURL, defaults.BlobURL = parsed.DatabaseURL, parsed.BlobURL
	require.Equal(t, parsed, defaults)
	require.NoError(t, defaults.Validate())
	require.Equal(t, 20*time.Second, defaults.ShutdownTimeout)
	require.Equal(t, 5*time.Minute, defaults.MaxAhead)
}

// TestPeopleSignInSomewhere holds what goes together of OpenID Connect's settings.
func TestPeopleSignInSomewhere(t *testing.T) {
	withoutSettings(t)
	const people = needed + "--oidc-issuer=https://id.example/ --oidc-client-id=tollgate --public-url=https://tollgate.example/ --oidc-finance-groups=finance "
	var api APIConfig
	require.NoError(t, parse(&api, people+"--no-sign-in-by-key"))
	require.NotNil(t, api.provider())
	require.Equal(t, "id.example", api.provider().Name())
	require.NoError(t, parse(&APIConfig{}, people+"--oidc-issuer=http://localhost:5556 --public-url=http://127.0.0.1:8080"))
	for args, says := range map[string]string{
		needed + "--no-sign-in-by-key":                                  "lets nobody sign in",
		needed + "--oidc-issuer=https://id.example":                     "--oidc-client-id and --public-url",
		strings.Replace(people, "--oidc-finance-groups=finance", "", 1): "lets nobody in",
		people + "--oidc-admin-groups=,a":                               "an empty group",
		people + "--oidc-issuer=http://id.example":                      "must be https://",
		people + "--public-url=http://t.example":                        "must be https://",
		people + "--public-url=https://t.example/at":                    "no path",
		people + "--oidc-scopes=profile":                                "must have openid",
		people + "--oidc-owner-claim=name":                              "must be one of",
	} {
		require.ErrorContains(t, parse(&APIConfig{}, args), says, args)
	}
}
