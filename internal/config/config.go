// Package config holds the settings that the programs share. Each is a flag, an
// environment variable and a line of --help at once (kong), and is checked before
// anything starts.
package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/internal/temporalcodec"
	"github.com/riverline/tollgate/plans"
)

// Log says how a program logs.
type Log struct {
	LogLevel  string `enum:"debug,info,warn,error" default:"info" env:"TOLLGATE_LOG_LEVEL" help:"Least severe level that is logged: ${enum}."`
	LogFormat string `enum:"text,json" default:"text" env:"TOLLGATE_LOG_FORMAT" help:"Form of log lines: ${enum}."`
}

// Logger returns the logger, and makes it the default one.
func (l Log) Logger() *slog.Logger {
	var level slog.Level
	// The enum above admits only names that slog knows.
	_ = level.UnmarshalText([]byte(l.LogLevel))
	logger := telemetry.NewLogger(level, l.LogFormat)
	slog.SetDefault(logger)
	return logger
}

// Transport says how Postgres is reached.
type Transport struct {
	AllowPlaintextDatabase bool `env:"TOLLGATE_ALLOW_PLAINTEXT_DATABASE" help:"Let connections to a Postgres that is not on this machine go without TLS. Default: its URL must have sslmode=verify-full, verify-ca or require."`
}

// Database says where Postgres is.
type Database struct {
	Transport
	DatabaseURL    string `required:"" secret:"" env:"TOLLGATE_DATABASE_URL,DATABASE_URL" placeholder:"URL" help:"Postgres, as the role tollgate_api or a member of it: postgres://user:password@host:5432/database."`
	MaxConnections int32  `default:"16" env:"TOLLGATE_MAX_CONNECTIONS" help:"Most connections to Postgres, 2 to 1000."`
}

// Validate checks the settings.
func (d Database) Validate() error {
	if err := CheckDatabaseURL("--database-url", d.DatabaseURL); err != nil {
		return err
	}
	if d.MaxConnections < 2 || d.MaxConnections > 1000 {
		return fmt.Errorf("--max-connections is %d: it must be 2 to 1000", d.MaxConnections)
	}
	return nil
}

// Blobs says where export files are kept.
type Blobs struct {
	BlobURL string `required:"" env:"TOLLGATE_BLOB_URL" placeholder:"URL" help:"Where export files are kept, the same place for API and worker: file:///folder, or the URL of an object store."`
}

// Validate checks the settings.
func (b Blobs) Validate() error { return checkURL("--blob-url", b.BlobURL) }

// Temporal says how what Temporal keeps is protected. Where it is, and as whom to connect, are in
// Temporal's own variables.
type Temporal struct {
	TemporalKeys string `secret:"" env:"TOLLGATE_TEMPORAL_KEYS" placeholder:"KEYS" help:"Keys that encrypt what Temporal keeps, the same for every process: id:base64 of 32 bytes, one a line or separated by commas. The first one encrypts, all of them decrypt. Default: Temporal keeps it in the clear."`
}

// Validate checks the settings.
func (t Temporal) Validate() error {
	_, err := t.Codec()
	return err
}

// Codec returns what encrypts; one without keys where there are none.
func (t Temporal) Codec() (*temporalcodec.Codec, error) {
	if t.TemporalKeys == "" {
		return &temporalcodec.Codec{}, nil
	}
	codec, err := temporalcodec.New(t.TemporalKeys)
	if err != nil {
		return nil, fmt.Errorf("--temporal-keys: %w", err)
	}
	return codec, nil
}

// Catalog says what is counted and what each plan allows.
type Catalog struct {
	Catalog string `type:"path" env:"TOLLGATE_CATALOG" placeholder:"FILE" help:"YAML file of meters and plans that is published at start; give it to every process of an installation. Default: the built-in Free, Pro and Enterprise, unless a catalog of one's own was published."`
}

// Own reports whether there is a file.
func (c Catalog) Own() bool { return c.Catalog != "" }

// Load reads the file, or returns the built-in catalog where there is none.
func (c Catalog) Load() (*plans.Catalog, error) {
	if c.Catalog == "" {
		return plans.Default(), nil
	}
	document, err := os.ReadFile(c.Catalog)
	if err != nil {
		return nil, fmt.Errorf("--catalog: %w", err)
	}
	catalog, err := plans.Parse(document)
	if err != nil {
		return nil, fmt.Errorf("--catalog %s: %w", c.Catalog, err)
	}
	return catalog, nil
}

// checkURL says what is wrong with a URL without showing it: it may bear a password.
func checkURL(flag, value string, schemes ...string) error {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" {
		return fmt.Errorf("%s must be a URL of the form scheme://…; it is missing, or is no such URL", flag)
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme {
			return nil
		}
	}
	if len(schemes) > 0 {
		return fmt.Errorf("%s begins with %s:// and must begin with %s://", flag, u.Scheme, schemes[0])
	}
	return nil
}

// CheckDatabaseURL checks a setting that must be a postgres URL.
func CheckDatabaseURL(flag, value string) error {
	return checkURL(flag, value, "postgres", "postgresql")
}

// CheckHTTPURL checks an optional setting that must be an http or https URL with a host.
func CheckHTTPURL(flag, value string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%s is %q: it must be an http:// or https:// URL with a host", flag, value)
	}
	return nil
}

// CheckListen checks a setting that must be host:port.
func CheckListen(flag, value string) error {
	if _, port, found := strings.Cut(value, ":"); !found || port == "" {
		return fmt.Errorf("%s is %q: it must be host:port, as in 127.0.0.1:8080 or :8080", flag, value)
	}
	return nil
}

// Stripe says where statements are delivered. Without a key they are delivered nowhere.
type Stripe struct {
	StripeKey string `secret:"" env:"TOLLGATE_STRIPE_KEY" placeholder:"KEY" help:"Secret or restricted key of Stripe, which may read and write invoices; without it nothing is delivered."`
	StripeURL string `env:"TOLLGATE_STRIPE_URL" placeholder:"URL" help:"Address of what speaks Stripe's API, such as its mock; Stripe itself by default."`
}

// Validate checks the settings.
func (s Stripe) Validate() error {
	if s.StripeURL == "" {
		return nil
	}
	return CheckHTTPURL("--stripe-url", s.StripeURL)
}
