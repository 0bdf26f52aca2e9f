package meter

import (
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// Index is a meter's place in the catalog. It stays the same as long as the
// process runs.
type Index int

// Config is what a [Meter] is made from.
type Config struct {
	// Catalog says what is counted and what each plan allows. Required.
	Catalog *plans.Catalog
	// Store has the organizations' plans and stored usage. Required.
	Store Store
	// LoadTimeout bounds the first request's wait for an organization that isn't in
	// memory. Zero: 2 s. After it the request is allowed (C5).
	LoadTimeout time.Duration
	// LoadRetry is the time between two attempts to load an organization that could
	// not be loaded. Zero: 1 s.
	LoadRetry time.Duration
	// Journal keeps what is admitted until it is written. Nil: what isn't flushed ends
	// with the process.
	Journal Journal
	// RefuseUnjournalled says that a report that the journal can't take is refused. False:
	// it is counted, and lost should the process die before the next flush.
	RefuseUnjournalled bool

	// Leases makes hard limits of sums exact across instances. Nil: this instance knows
	// of others by their flushes alone.
	Leases LeaseStore
	// Instance is the identity under which leases are held. Required with Leases.
	Instance uuid.UUID
	// LeaseFor is how long leases are the instance's own after the store has seen it:
	// less than the time after which it is declared lost. Zero: for ever.
	LeaseFor time.Duration
	// DenyUnleased says that what a hard limit bounds is not admitted while leases can't be
	// had. False: it is, and counted as unleased (C5).
	DenyUnleased bool
	// Behind is called where an ask finds that the store has lost what it had acknowledged: it
	// sees that the instance is flushed soon. It must not block. Nil: the next flush finds it.
	Behind func()
	// QuotaWait is how long a request waits for quota from other instances, once the store has
	// answered. Zero: 700 ms.
	QuotaWait time.Duration
	// AskTimeout bounds a call for leases. After it the store is taken to be away. Zero: 2 s.
	AskTimeout time.Duration

	// Identities knows the identities that were counted. Nil: only those that aren't flushed
	// are known before the flush.
	Identities IdentityStore
	// KnownTimeout bounds a look-up of identities. Zero: 500 ms.
	KnownTimeout time.Duration
	// MaxIdentified is how many reports with an identity may wait for the store at most, each of which
	// takes some 500 bytes: usage without one is folded, and takes no more the longer the store is
	// away. More are refused with [ErrTooManyIdentified]. Zero: 1,000,000.
	MaxIdentified int

	// RedateAfter is how long a reservation is open before it is moved to the day of then, where
	// its own day has passed ([Meter.KeepOpen]). Zero: 5 minutes.
	RedateAfter time.Duration

	// Now tells the time, UTC: it is read when a decision is made, after all that the caller
	// and the meter have waited for. Required with Leases and with [Organization.ReportKnown].
	// Nil: the caller's time decides.
	Now func() time.Time
	// Logger takes what can't be returned: failures of background loads. Nil: slog.Default.
	Logger *slog.Logger

	// manualLeases leaves it to tests to make the calls for leases.
	manualLeases bool
}

func (c *Config) complete() {
	if c.Catalog == nil || c.Store == nil {
		panic("meter: Config.Catalog and Config.Store are required")
	}
	if c.Leases != nil && (c.Instance == uuid.Nil || c.Now == nil) {
		panic("meter: Config.Instance and Config.Now are required with Config.Leases")
	}
	orElse := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	orElse(&c.LoadTimeout, 2*time.Second)
	orElse(&c.LoadRetry, time.Second)
	orElse(&c.QuotaWait, 700*time.Millisecond)
	orElse(&c.AskTimeout, 2*time.Second)
	orElse(&c.RedateAfter, 5*time.Minute)
	orElse(&c.KnownTimeout, 500*time.Millisecond)
	if c.MaxIdentified == 0 {
		c.MaxIdentified = 1_000_000
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

// Meter counts the usage of organizations in memory. Its methods may be called by
// any number of goroutines.
type Meter struct {
	config Config
	orgs   *table
	stats  stats

	// catalogMu is held for reading while an organization's view is built, and for
	// writing while the catalog and every view are replaced.
	catalogMu sync.RWMutex
	catalog   atomic.Pointer[plans.Catalog]
	indexes   atomic.Pointer[map[string]Index]
	// views holds the view of each plan in force, unloaded that of organizations whose
	// plan isn't known. They are replaced with the catalog.
	views    map[string]*view
	unloaded *view
	// ended is the view of organizations without a contract.
	ended  *view
	prices prices

	loads singleflight.Group
	// loading has the organizations that are being loaded: true where a change came since,
	// so that they must be read again before anything is decided by what was read.
	loadingMu sync.Mutex
	loading   map[uuid.UUID]bool

	background sync.WaitGroup

	// storeMu is held while a batch is written and acknowledged, and while stored
	// usage is read and merged: what was read is then neither older nor newer than
	// what was acknowledged.
	storeMu sync.Mutex

	drainLocks drainLocks
	// epoch counts the drains that took something, from 1; 0 is left out.
	epoch   atomic.Uint32
	dirtyMu sync.Mutex
	dirty   []*slot
	spare   []*slot
	// setAside holds rows of the epoch that is being drained.
	setAside []drained

	today atomic.Pointer[today]
	// atOnce says that the journal, if any, may be asked under the lock of a slot.
	atOnce bool

	// exceeded are the slots of which a limit refused a request, or was passed, since the
	// last flush.
	exceededMu sync.Mutex
	exceeded   []exceeded

	// keeper is nil without leases.
	keeper *keeper
	// leasesUntil is the time before which leases are the instance's own, and leasesAway the
	// time until which the store is taken to be away; both in Unix nanoseconds.
	leasesUntil, leasesAway atomic.Int64
	// leasesAwayFor is why.
	leasesAwayFor atomic.Pointer[error]
	// generations counts up with each quota and each adoption: what was made later has a
	// greater stamp.
	generations atomic.Int64
	// acknowledged is the sequence of the last batch that the store has acknowledged.
	acknowledged atomic.Int64
	// switched says that a limit came into force, since the last call of [Takeover.Follow],
	// for what may have been admitted without it; unflushed that some of that waits for a
	// drain.
	switched, unflushed atomic.Bool
	// refusedLoads are the organizations that the store refused to let read.
	refusedLoads sync.Map
	// unbooked is the quantity that quotas have adopted and the store isn't known to have.
	unbooked atomic.Int64
	// knownAway is the time until which identities are not looked up.
	knownAway  atomic.Int64
	identities identities
	crowd      crowd

	// heldDays counts, for each day that has passed, the reservations still open.
	heldMu   sync.Mutex
	heldDays map[calendar.Day]int64
	// open are the reservations that may stay open for long.
	open openReservations
	// sweptStart is the start of the day to which a drain last rolled every slot, in
	// Unix nanoseconds.
	sweptStart atomic.Int64
}

// New makes a meter with no organizations in memory. It panics where a required
// field of the config is missing.
func New(config Config) *Meter {
	config.complete()
	m := &Meter{
		config:   config,
		orgs:     newTable(),
		heldDays: map[calendar.Day]int64{},
		loading:  map[uuid.UUID]bool{},
		atOnce:   config.Journal == nil || !config.Journal.Waits(),
	}
	m.stats.meters = make([][stripes]stripe, plans.MaxMeters)
	m.crowd.begin(m.config.MaxIdentified)
	m.epoch.Store(1)
	m.resolve(config.Catalog)
	m.publish(config.Catalog)
	m.leasesUntil.Store(math.MaxInt64)
	if config.Leases != nil {
		m.keeper = newKeeper(m)
		if config.LeaseFor > 0 {
			m.leasesUntil.Store(config.Now().Add(config.LeaseFor).UnixNano())
		}
	}
	return m
}

// Close ends the calls for leases and waits for background loads. Call it after the
// last request.
func (m *Meter) Close() {
	if m.keeper != nil {
		m.keeper.stop()
	}
	m.background.Wait()
}

// Catalog returns the catalog in force. It must not be changed.
func (m *Meter) Catalog() *plans.Catalog { return m.catalog.Load() }

// Index returns the place of the meter with the key.
func (m *Meter) Index(key string) (Index, bool) {
	i, ok := (*m.indexes.Load())[key]
	return i, ok
}

// Organizations returns how many organizations are in memory.
func (m *Meter) Organizations() int { return m.orgs.len() }

// Counts returns the decisions on one meter since the process began.
func (m *Meter) Counts(i Index) Counts { return m.stats.read(i) }

// LeasesAway returns why leases can't be had from the store, while that is so: what a hard limit
// bounds is then admitted without, or not at all ([Config.DenyUnleased]). Nil: they can.
func (m *Meter) LeasesAway() error {
	if m.leasesAway.Load() == 0 {
		return nil
	}
	return *m.leasesAwayFor.Load()
}

// Refuses returns why nothing is taken now: the journal can't keep it, and the settings
// want that ([Config.RefuseUnjournalled]). Nil: usage is taken.
func (m *Meter) Refuses() error {
	if !m.config.RefuseUnjournalled || m.config.Journal == nil {
		return nil
	}
	if err := m.config.Journal.Health(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
