package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/alecthomas/kong"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/workflows"
)

// APIConfig are the settings of the API.
type APIConfig struct {
	Shared
	ListenDatabase
	TLS
	People
	Listen          string        `default:"127.0.0.1:8080" env:"TOLLGATE_LISTEN" help:"Address of the API."`
	MetricsListen   string        `default:"127.0.0.1:9091" env:"TOLLGATE_METRICS_LISTEN" help:"Address of /metrics, for those who operate the API: not one that tenants reach. Empty: metrics are not served."`
	FlushInterval   time.Duration `default:"10s" env:"TOLLGATE_FLUSH_INTERVAL" help:"Time between flushes of usage to Postgres, 100ms to 5m."`
	Upstream        string        `env:"TOLLGATE_UPSTREAM" placeholder:"URL" help:"Where /gateway/* passes requests on to. Default: there is no gateway."`
	GatewayRules    string        `type:"path" env:"TOLLGATE_GATEWAY_RULES" placeholder:"FILE" help:"YAML file of what requests to the gateway are charged for. Default: the built-in rules."`
	PassUnknown     bool          `name:"gateway-pass-unknown" env:"TOLLGATE_GATEWAY_PASS_UNKNOWN" help:"Let requests to the gateway through that no rule knows, uncounted. Default: they are answered with 404."`
	TemporalUIURL   string        `name:"temporal-ui-url" env:"TOLLGATE_TEMPORAL_UI_URL" placeholder:"URL" help:"Temporal's UI, for links to runs."`
	JournalDir      string        `type:"path" default:"tollgate-journal" env:"TOLLGATE_JOURNAL_DIR" placeholder:"FOLDER" help:"Folder of the journal, on a local disk; each API needs one of its own, and finds it again when it starts anew."`
	JournalKeep     time.Duration `default:"1h" env:"TOLLGATE_JOURNAL_KEEP" help:"How long the journal keeps usage that is written, so that a Postgres which goes back in time (a restored backup, a standby that lagged) gets it again, 0 to 720h. 0: not at all."`
	JournalKeepMiB  int64         `name:"journal-keep-mib" default:"4096" env:"TOLLGATE_JOURNAL_KEEP_MIB" help:"The most that this takes on disk, in MiB, 1 to 1048576; the oldest goes first."`
	JournalWait     time.Duration `default:"30s" env:"TOLLGATE_JOURNAL_WAIT" help:"How long a start waits for the journal's folder while the process before still has it, 0 to 10m. 0: not at all."`
	Durability      string        `enum:"memory,process,disk" default:"process" env:"TOLLGATE_DURABILITY" help:"What acknowledged usage survives before it is flushed: memory (nothing), process (kill -9), disk (a loss of power)."`
	JournalFull     string        `enum:"admit,refuse" default:"admit" env:"TOLLGATE_JOURNAL_FULL" help:"What becomes of requests that the journal can't keep: admit (counted in memory alone) or refuse (503)."`
	LeasesAway      string        `enum:"allow,deny" default:"allow" env:"TOLLGATE_LEASES_AWAY" help:"What becomes of requests under a hard limit while Postgres can't be asked for quota: allow (counted, the limit may be passed) or deny (503)."`
	LostAfter       time.Duration `default:"0s" env:"TOLLGATE_LOST_AFTER" help:"How long Postgres must not have seen this instance before it is declared lost and its quota is given to others, 5 flush intervals to 24h. Default: 1m, or 5 flush intervals."`
	MaxLate         time.Duration `default:"840h" env:"TOLLGATE_MAX_LATE" help:"How old usage may be that bears a time of its own, 1m to 840h (35 days: as long as identities are known)."`
	UsageThresholds []int         `default:"80,100" env:"TOLLGATE_USAGE_THRESHOLDS" placeholder:"PERCENT,…" help:"Percentages of a limit at which an event says that usage has reached them, each 1 to 100."`
	MaxAhead        time.Duration `default:"5m" env:"TOLLGATE_MAX_AHEAD" help:"How far after now such a time may be, for clocks that differ; it counts as now. 1s to 1h."`
	CreditTakesTwo  string        `name:"credit-takes-two" env:"TOLLGATE_CREDIT_TAKES_TWO" placeholder:"AMOUNT" help:"Amount, in a grant's own currency, above which a grant of credit waits until a second person approves it, with what the organization was granted by one person in the 24 hours before; 0: each grant. Default: none does."`
	DrainDelay      time.Duration `default:"0s" env:"TOLLGATE_DRAIN_DELAY" help:"Time between becoming unready and refusing connections, for load balancers to notice, 0 to 5m."`
	HeaderTimeout   time.Duration `default:"5s" env:"TOLLGATE_HEADER_TIMEOUT" help:"How long the header of a request may take to come in, 100ms to 5m."`
	BodyTimeout     time.Duration `default:"10s" env:"TOLLGATE_BODY_TIMEOUT" help:"How long the body of a request may bring nothing before it is answered with 408, 100ms to 1h. A body that goes on is never cut."`
	Callers         int           `default:"0" env:"TOLLGATE_CALLERS" help:"Most connections of callers, 16 to 1000000. 0: as many as the limit of file descriptors leaves after journal, Postgres and Temporal, and at most 20000."`
	TenantRequests  int           `default:"0" env:"TOLLGATE_TENANT_REQUESTS" help:"Most requests that one tenant, or a key of nobody's, may have under way, 1 to 1000000; more are answered with 429. 0: a quarter of the connections."`
	TenantCost      int           `default:"100000" env:"TOLLGATE_TENANT_COST" help:"What the requests of one tenant may cost, in tokens a second, 1000 to 1000000000; those of 10 s may be used at once, and more is answered with 429. The API reference says what costs how much. 0: anything."`
	KeysAway        time.Duration `default:"0s" env:"TOLLGATE_KEYS_AWAY" help:"How long tenants' keys that Postgres can't confirm go on working, 1m to 720h; then the answer is 503. 0: without bound. Keys of finance and administrators work for a minute."`
	MaxKeys         int           `default:"100000" env:"TOLLGATE_MAX_KEYS" help:"Most keys kept in memory, 1000 to 100000000, some 600 bytes each: at least as many as are used in a few minutes, as each further one is looked up in Postgres. 0: 100000."`
	MaxIdentified   int           `default:"1000000" env:"TOLLGATE_MAX_IDENTIFIED" help:"Most reports with an identity (an idempotency key, a CloudEvent) that may wait for Postgres, 1000 to 100000000, some 500 bytes each; more are answered with 503 until a flush has written some. Other usage is folded, and takes no more the longer Postgres is away. 0: 1000000."`
	IdleAfter       time.Duration `default:"1h" env:"TOLLGATE_IDLE_AFTER" help:"How long an organization must not have used anything until it leaves memory, its leases given back: at once to twice as long after that. It comes back with its next request. 1m to 720h. 0: never."`
	MaxDelay        time.Duration `default:"20ms" env:"TOLLGATE_MAX_DELAY" help:"How long requests may wait before anything of the process sees them, until tenants' requests beyond their share are answered with 503, 5ms to 10s. 0: nothing is shed."`
	GatewayBodyMiB  int64         `name:"gateway-body-mib" default:"1024" env:"TOLLGATE_GATEWAY_BODY_MIB" help:"Largest body of a request to the gateway, in MiB, 0 to 1048576; larger ones are answered with 413. 0: any size."`
	RedateAfter     time.Duration `default:"5m" env:"TOLLGATE_REDATE_AFTER" help:"How long a request to the gateway is under way before its usage belongs to the day of then, where its own day has passed: so long it may hold up the close of a month. 1s to 24h."`
	ShutdownTimeout time.Duration `default:"20s" env:"TOLLGATE_SHUTDOWN_TIMEOUT" help:"How long requests under way may take at the end, 1s to 10m."`
}

// DefaultAPIConfig returns the settings of an API of which nothing is said: those of the flags, and of
// the environment where it says more.
func DefaultAPIConfig() (APIConfig, error) {
	var settings APIConfig
	parser, err := kong.New(&settings, config.SecretFiles())
	if err != nil {
		return settings, fmt.Errorf("describe the API's settings: %w", err)
	}
	// kong.ApplyDefaults validates, too: what has no default is missing yet.
	read, err := kong.Trace(parser, nil)
	if err == nil {
		err = errors.Join(read.Resolve(), read.ApplyDefaults())
	}
	if err != nil {
		return settings, fmt.Errorf("read the defaults of the API's settings: %w", err)
	}
	return settings, nil
}

// Validate checks the settings.
func (c APIConfig) Validate() error {
	return errors.Join(
		c.Shared.Validate(),
		c.ListenDatabase.Validate(),
		CheckTransport("--listen-database-url", c.ListenDatabaseURL, c.Transport),
		config.CheckListen("--listen", c.Listen),
		c.TLS.Validate(),
		c.People.Validate(),
		c.checkMetricsListen(),
		config.CheckHTTPURL("--upstream", c.Upstream),
		config.CheckHTTPURL("--temporal-ui-url", c.TemporalUIURL),
		within("--flush-interval", c.FlushInterval, 100*time.Millisecond, 5*time.Minute),
		c.checkLostAfter(),
		within("--journal-keep", c.JournalKeep, 0, 30*24*time.Hour),
		c.checkJournalKeepMiB(),
		within("--journal-wait", c.JournalWait, 0, 10*time.Minute),
		within("--max-late", c.MaxLate, time.Minute, meter.IdentityRetention),
		within("--max-ahead", c.MaxAhead, time.Second, time.Hour),
		checkThresholds(c.UsageThresholds),
		within("--drain-delay", c.DrainDelay, 0, 5*time.Minute),
		within("--header-timeout", c.HeaderTimeout, 100*time.Millisecond, 5*time.Minute),
		within("--body-timeout", c.BodyTimeout, 100*time.Millisecond, time.Hour),
		c.checkBounds(),
		c.checkMaxDelay(),
		c.checkKeysAway(),
		c.checkIdleAfter(),
		c.checkCreditTakesTwo(),
		within("--redate-after", c.RedateAfter, time.Second, 24*time.Hour),
		within("--shutdown-timeout", c.ShutdownTimeout, time.Second, 10*time.Minute),
	)
}

func (c APIConfig) checkMetricsListen() error {
	if c.MetricsListen == "" {
		return nil
	}
	return config.CheckListen("--metrics-listen", c.MetricsListen)
}

func (c APIConfig) checkJournalKeepMiB() error {
	if c.JournalKeepMiB < 1 || c.JournalKeepMiB > 1<<20 {
		return fmt.Errorf("--journal-keep-mib is %d: it must be 1 to %d", c.JournalKeepMiB, 1<<20)
	}
	return nil
}

func (c APIConfig) checkBounds() error {
	var failed error
	for _, one := range []struct {
		flag               string
		value, least, most int64
	}{
		{"--callers", int64(c.Callers), 16, 1_000_000},
		{"--tenant-requests", int64(c.TenantRequests), 1, 1_000_000},
		{"--tenant-cost", int64(c.TenantCost), 1_000, 1_000_000_000},
		{"--max-keys", int64(c.MaxKeys), 1_000, 100_000_000},
		{"--max-identified", int64(c.MaxIdentified), 1_000, 100_000_000},
		{"--gateway-body-mib", c.GatewayBodyMiB, 1, 1 << 20},
	} {
		if one.value != 0 && (one.value < one.least || one.value > one.most) {
			failed = errors.Join(failed, fmt.Errorf("%s is %d: it must be 0, or %d to %d", one.flag, one.value, one.least, one.most))
		}
	}
	return failed
}

func (c APIConfig) checkMaxDelay() error {
	if c.MaxDelay == 0 {
		return nil
	}
	return within("--max-delay", c.MaxDelay, 5*time.Millisecond, 10*time.Second)
}

func (c APIConfig) checkKeysAway() error {
	if c.KeysAway == 0 {
		return nil
	}
	return within("--keys-away", c.KeysAway, time.Minute, 30*24*time.Hour)
}

func (c APIConfig) checkIdleAfter() error {
	if c.IdleAfter == 0 {
		return nil
	}
	return within("--idle-after", c.IdleAfter, time.Minute, 30*24*time.Hour)
}

func (c APIConfig) checkCreditTakesTwo() error {
	if amount, err := c.creditTakesTwo(); err != nil || (amount != nil && amount.IsNegative()) {
		return fmt.Errorf("--credit-takes-two is %q: it must be a decimal number of 0 or more", c.CreditTakesTwo)
	}
	return nil
}

// creditTakesTwo is the amount that is set; nil: none.
func (c APIConfig) creditTakesTwo() (*decimal.Decimal, error) {
	if c.CreditTakesTwo == "" {
		return nil, nil
	}
	amount, err := money.Parse(c.CreditTakesTwo)
	return &amount, err
}

func (c APIConfig) checkLostAfter() error {
	if c.LostAfter == 0 {
		return nil
	}
	return within("--lost-after", c.LostAfter, workflows.LostIntervals*c.FlushInterval, 24*time.Hour)
}

// lostAfter is the setting or its default.
func (c APIConfig) lostAfter() time.Duration {
	if c.LostAfter > 0 {
		return c.LostAfter
	}
	return workflows.LostAfter(c.FlushInterval)
}

func within(flag string, value, least, most time.Duration) error {
	if value < least || value > most {
		return fmt.Errorf("%s is %s: it must be %s to %s", flag, value, least, most)
	}
	return nil
}
