package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/sinks"
)

// Store keeps organizations, keys, plans, usage and exports. An error that has a
// method Retryable() bool, and answers true there, is a failure that passes.
type Store interface {
	// CreateOrganization adds an organization on a plan. A broken rule is an
	// [*fault.FieldError].
	CreateOrganization(ctx context.Context, o accounts.NewOrganization) (accounts.Organization, error)
	// Organization returns one organization, or [accounts.ErrOrganizationNotFound].
	Organization(ctx context.Context, id uuid.UUID) (accounts.Organization, error)
	// ListOrganizations returns at most limit organizations whose IDs come after
	// `after`, in their order.
	ListOrganizations(ctx context.Context, after uuid.UUID, limit int) ([]accounts.Organization, error)
	// SearchOrganizations returns at most limit organizations whose name or ID begins with a text, by
	// name.
	SearchOrganizations(ctx context.Context, begin string, limit int) ([]accounts.Organization, error)
	// ChangeContract changes a contract by the rules of [accounts.Contract.Change], and has
	// its errors.
	ChangeContract(ctx context.Context, id uuid.UUID, r accounts.Request) (accounts.Changed, error)
	// Standing returns whether an organization is under contract.
	Standing(ctx context.Context, id uuid.UUID) (accounts.Standing, error)
	// UpdateOrganization changes what an administrator may change at once.
	UpdateOrganization(ctx context.Context, id uuid.UUID, change accounts.OrganizationChange) (accounts.Changed, error)
	// PutCustomer sets how a sink knows an organization, or answers [accounts.ErrOrganizationNotFound].
	// An identity of another organization is an [*fault.FieldError].
	PutCustomer(ctx context.Context, c sinks.Customer) error

	// CreateKey adds a key with the hash of its secret, and returns it as it is kept.
	CreateKey(ctx context.Context, k accounts.Key, hash accounts.SecretHash) (accounts.Key, error)
	// ListKeys returns the keys of an organization or, where that is nil, all keys.
	ListKeys(ctx context.Context, organization *uuid.UUID) ([]accounts.Key, error)
	// StaffKeys returns the keys of finance and administrators.
	StaffKeys(ctx context.Context) ([]accounts.Key, error)
	// RevokeKey ends a key, or answers [accounts.ErrKeyNotFound].
	RevokeKey(ctx context.Context, id uuid.UUID) error
	// KeyByHash returns the key of a secret, a revoked one too, or [accounts.ErrKeyNotFound].
	KeyByHash(ctx context.Context, hash accounts.SecretHash) (accounts.Key, error)
	// KeyBegins reports whether there is a key, revoked ones included, whose secret begins so:
	// [accounts.SecretPrefix].
	KeyBegins(ctx context.Context, prefix string) (bool, error)
	// KeysRevokedSince returns the keys that were revoked at a time or after it, none for the zero
	// time, and the time as of which that is said. Times are the store's.
	KeysRevokedSince(ctx context.Context, since time.Time) (ids []uuid.UUID, asOf time.Time, err error)

	// UsageRange returns an organization's records of a meter from one day to another,
	// both included, in the order of the day.
	UsageRange(ctx context.Context, organization uuid.UUID, from, to calendar.Day, meterKey string) ([]billing.UsageRecord, error)
	// UsageRangeAll folds the records of those days for every organization and meter.
	UsageRangeAll(ctx context.Context, from, to calendar.Day) ([]billing.UsageTotal, error)

	// Catalog returns what is published, over the defaults.
	Catalog(ctx context.Context) (*plans.Catalog, error)
	// PublishPlans publishes each plan as the version after its highest, all or none, and returns
	// them in their order. A broken rule is [plans.ErrInvalidCatalog].
	PublishPlans(ctx context.Context, list ...plans.Plan) ([]plans.Published, error)

	// Export returns the period's export, or [billing.ErrExportNotFound].
	Export(ctx context.Context, period calendar.Period) (billing.Export, error)
	// Exports returns at most limit exports, the newest first: those before the one of an ID, or
	// all for the zero ID.
	Exports(ctx context.Context, before uuid.UUID, limit int) ([]billing.Export, error)

	// InstancesSince returns the processes that meter, and those that are gone and were seen since a time, in the order
	// in which they started.
	InstancesSince(ctx context.Context, since time.Time) ([]meter.Instance, error)
	// Instance returns one of them, or [meter.ErrUnknownInstance].
	Instance(ctx context.Context, id uuid.UUID) (meter.Instance, error)

	AuditStore
	BillStore
	CloseStore
	CreditStore
	OperationsStore
	ProposalStore
	QuarantineStore
	ReservationStore
	WriteStore
}

// ReservationStore keeps reservations, so that every instance can settle them. A method
// that is given an organization knows only that one's; what isn't there is
// [meter.ErrReservationNotFound], what has ended otherwise [meter.ErrReservationEnded].
// What a hard limit doesn't cover is a [*meter.QuotaShortError], and changes nothing.
type ReservationStore interface {
	// HoldReservation stores a reservation as held; planVersion is the version of its plan.
	// One with the same ID, or the same identity, is answered as it is, unless its
	// fingerprint is another: [meter.ErrIdentityReused].
	HoldReservation(ctx context.Context, r meter.StoredReservation, planVersion int) (meter.StoredReservation, error)
	// CommitReservation counts a quantity, or what is held where that is nil. The same
	// again is answered alike.
	CommitReservation(ctx context.Context, organization, id uuid.UUID, quantity *int64) (meter.StoredReservation, error)
	// ReleaseReservation gives back what is held. One that was released or has expired is
	// answered as it is.
	ReleaseReservation(ctx context.Context, organization, id uuid.UUID) (meter.StoredReservation, error)
	// Reservation returns a reservation as it is.
	Reservation(ctx context.Context, organization, id uuid.UUID) (meter.StoredReservation, error)
}

// WriteStore keeps the answers to requests that bear an Idempotency-Key.
type WriteStore interface {
	// BeginUsageKey binds a key to a batch of reports and begins it, or returns the answer that was
	// kept of it. It answers [meter.ErrIdentityReused] where the key is another batch's, and
	// [accounts.ErrWriteUnderWay]. EndUsageKey ends it; without an answer it may be begun again.
	BeginUsageKey(ctx context.Context, organization uuid.UUID, key meter.BatchKey) (answer []byte, err error)
	EndUsageKey(ctx context.Context, organization uuid.UUID, key meter.BatchKey, answer []byte) error
	// BeginWrite notes that a request is under way. It returns the answer of the same
	// request that was finished before; nil: the caller carries it out, and says then how
	// it ended. It answers [accounts.ErrWriteUnderWay] or [accounts.ErrWriteReused].
	BeginWrite(ctx context.Context, w accounts.Write) (*accounts.WriteAnswer, error)
	// FinishWrite keeps the answer of a request that was begun.
	FinishWrite(ctx context.Context, w accounts.Write, answer accounts.WriteAnswer) error
	// AbandonWrite forgets a request that was begun and has no answer to be kept.
	AbandonWrite(ctx context.Context, w accounts.Write) error
}

// Errors that [Workflows] answers with.
var (
	// ErrWorkflowsAway says that Temporal couldn't be reached, or didn't answer in time.
	ErrWorkflowsAway = errors.New("the workflow service is away")
	// ErrNotRunning says that there is no such workflow under way.
	ErrNotRunning = errors.New("the workflow is not running")
)

// Workflows reaches what runs durably.
type Workflows interface {
	// StartExport starts the run of a period, or finds the one that is under way.
	StartExport(ctx context.Context, start ExportRequest) (ExportRun, error)
	// DeliverExport starts the delivery of an export's statements to the sinks, or finds the
	// one of the period that is under way.
	DeliverExport(ctx context.Context, d DeliveryRequest) (ExportRun, error)
	// Decide tells the run of a period what finance decided, and returns its stage then. It is
	// a [*DecisionRefused] where that may not be, [ErrNotRunning] where none is under way.
	Decide(ctx context.Context, d ExportDecision) (billing.Stage, error)
	// ExportProgress asks the run of a period how far it is; [ErrNotRunning] where
	// there is none under way.
	ExportProgress(ctx context.Context, period calendar.Period) (ExportProgress, error)
	// FlushNow makes an instance flush and waits for it; [ErrNotRunning] where the
	// instance is not driven any more.
	FlushNow(ctx context.Context, instance uuid.UUID) (meter.FlushSummary, error)
}

// ExportRun identifies the run of an export.
type ExportRun struct {
	WorkflowID, RunID string
	// Started is false where the run was under way already.
	Started bool
}

// ExportProgress is what a run under way does now.
type ExportProgress struct {
	Stage billing.Stage
	// Note is the step in words.
	Note string
	// Done and Total count the stage's steps; Total is 0 where it isn't known.
	Done, Total int64
}

// Blobs has the files of exports.
type Blobs interface {
	// Open opens a file by its name in the blob store; fs.ErrNotExist where there is none.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Part is something that the process depends on, for the answer of /readyz.
type Part struct {
	// Name is what people read: "postgres".
	Name string
	// Check reports whether the part can be reached, or is as it should be otherwise: then its
	// error is a [PartState]. It is given a second.
	Check func(ctx context.Context) error
}

// PartState is what /readyz says of a part that isn't as it should be.
type PartState string

// Error makes it what a check returns.
func (s PartState) Error() string { return "the part is " + string(s) }

// The states of parts that can be reached.
const (
	// PartFailing: what it does fails, and is tried again.
	PartFailing PartState = "failing"
	// PartIncomplete: something of it is lost for good.
	PartIncomplete PartState = "incomplete"
	// PartOverloaded: there is more to do than can be done, and some of it is answered with 503.
	PartOverloaded PartState = "overloaded"
	// PartTooOld and PartTooNew: this program doesn't work with it. The process is then not ready.
	PartTooOld PartState = "too_old"
	PartTooNew PartState = "too_new"
)

// Config is what a [Server] is made from.
type Config struct {
	// Meter counts and decides. Required.
	Meter *meter.Meter
	// Refresher puts changes in force at the meter. Required.
	Refresher *meter.Refresher
	// Store, Workflows and Blobs are where things are kept and run. Required.
	Store     Store
	Workflows Workflows
	Blobs     Blobs
	WebhooksConfig

	// Upstream is where the gateway passes requests on to. Nil: there is no gateway.
	Upstream *url.URL
	// Rules say what the gateway charges. Nil: [gate.DefaultRules] of the meter's catalog.
	Rules *gate.Rules
	// PassUnknown lets a request to the gateway through that no rule knows, uncounted. False: the
	// answer is 404.
	PassUnknown bool
	// UpstreamTimeout bounds the wait for the header of the upstream's answer. Zero: 60 s.
	UpstreamTimeout time.Duration
	// BodyTimeout bounds how long the body of a request to the gateway may bring nothing before
	// there is an answer. Zero: [gate.DefaultBodyTimeout].
	BodyTimeout time.Duration
	// MaxGatewayBody is the largest body of a request to the gateway, in bytes, and
	// MaxUpstreamConns the most connections to the upstream. Zero: any.
	MaxGatewayBody   int64
	MaxUpstreamConns int
	// MaxUnderWay is the most requests that one caller may have under way: a tenant with all
	// of its keys, or a key of nobody's. Zero: 5,000.
	MaxUnderWay int
	// TenantCost is what the requests of one organization may cost on this instance, in tokens a second; it may use those
	// of 10 s at once. Negative: anything. Zero: 100,000.
	TenantCost int
	// Shedder answers tenants' requests with 503 while there is more to do than can be done;
	// whoever makes it runs it. Its state is the part "load" of /readyz. Nil: nothing is shed.
	Shedder *gate.Shedder

	// MaxLate is how old usage may be that bears a time of its own: no more than what it
	// is told apart by is kept ([meter.IdentityRetention]). Zero: 35 days.
	MaxLate time.Duration
	// MaxAhead is how far after now such a time may be, for clocks that differ; it counts
	// as now. Zero: 5 minutes.
	MaxAhead time.Duration
	// MaxBatchBytes is the largest body of POST /usage/batch, in bytes. Zero: 16 MiB.
	MaxBatchBytes int64

	// CreditsTakeTwo is the amount, in a grant's own currency, above which a grant of credit waits
	// for a second person, with what one person granted the organization in the [billing.AloneWithin]
	// before. Nil: none does.
	CreditsTakeTwo *decimal.Decimal
	// PlansTakeTwo has each version of a plan wait for a second person.
	PlansTakeTwo bool

	// KeyRecheck is how long a key is taken from memory that nobody confirms ([Server.ConfirmKeys])
	// before it is looked up again. Zero: 1 minute.
	KeyRecheck time.Duration
	// KeysAway is how long a tenant's key works that the store can't confirm; then the answer is
	// 503. Zero: without bound. Keys of finance and administrators work for a minute.
	KeysAway time.Duration
	// KeyLookups is how many look-ups of keys that aren't in memory run at once, and how many
	// rechecks of others beside them: callers with wrong keys must not take the store away from
	// everybody else. Zero: 4.
	KeyLookups int
	// MaxKeys is the most keys kept in memory. Zero: 100,000.
	MaxKeys int

	// RecordWait is how long the start of an export waits for a worker to record the run,
	// before it answers all the same. Zero: 3 seconds.
	RecordWait time.Duration

	// Backlog says what this process has acknowledged and not written. Nil: nothing is said of it.
	Backlog func() Backlog
	// Parts are shown by /readyz.
	Parts []Part
	// TemporalURL returns where a run can be watched. Nil: answers name no such place.
	TemporalURL func(workflowID, runID string) string

	// Middleware runs before the routes of the API and the gateway: tracing. Before
	// POST /usage it runs only where the caller traces the request and has sampled it
	// (W3C Trace Context): it would cost several times what the request itself does.
	Middleware []gin.HandlerFunc
	// Observe is told of every request when it ends: the method, the route's pattern
	// (empty where there is none), the status and the time it took. Nil: nobody is told.
	Observe func(method, route string, status int, elapsed time.Duration)

	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger takes requests and failures. Nil: slog.Default.
	Logger *slog.Logger
}

func (c *Config) complete() {
	if c.Meter == nil || c.Refresher == nil || c.Store == nil || c.Workflows == nil || c.Blobs == nil || c.Webhooks == nil || c.Redeliverer == nil {
		panic("api: Config.Meter, Refresher, Store, Workflows, Blobs, Webhooks and Redeliverer are required")
	}
	if c.Shedder != nil {
		c.Parts = append(slices.Clone(c.Parts), Part{Name: "load", Check: func(context.Context) error { return shedHealth(c.Shedder) }})
	}
	if c.Rules == nil {
		c.Rules = gate.DefaultRules(c.Meter.Catalog())
	}
	if c.MaxLate == 0 {
		c.MaxLate = meter.IdentityRetention
	}
	if c.MaxAhead == 0 {
		c.MaxAhead = 5 * time.Minute
	}
	if c.MaxBatchBytes == 0 {
		c.MaxBatchBytes = 16 << 20
	}
	if c.MaxUnderWay == 0 {
		c.MaxUnderWay = 5_000
	}
	if c.TenantCost == 0 {
		c.TenantCost = 100_000
	}
	c.TenantCost = max(c.TenantCost, 0)
	if c.KeyRecheck == 0 {
		c.KeyRecheck = time.Minute
	}
	if c.KeyLookups == 0 {
		c.KeyLookups = 4
	}
	if c.MaxKeys == 0 {
		c.MaxKeys = 100_000
	}
	if c.RecordWait == 0 {
		c.RecordWait = 3 * time.Second
	}
	if c.Backlog == nil {
		c.Backlog = func() Backlog { return Backlog{} }
	}
	if c.TemporalURL == nil {
		c.TemporalURL = func(string, string) string { return "" }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}
