package gate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// Config is what a gate is made from.
type Config struct {
	// Meter counts and decides. Required.
	Meter *meter.Meter
	// Limiter bounds the speed of requests. Give every gate of a process the same
	// one. Nil: there is no rate limit.
	Limiter *Limiter
	// UpgradeURL says where an organization's plan is changed, for answers with 402.
	// Nil: [UpgradeURL].
	UpgradeURL func(organization uuid.UUID) string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger takes what can't be answered. Nil: slog.Default.
	Logger *slog.Logger

	// Organization says whose request it is. False: the answer is 401, unless the
	// function has aborted the request with an answer of its own. Required by [New].
	Organization func(*gin.Context) (*meter.Organization, bool)
	// Classify says what a request is charged for; false where no rule knows it.
	// Required by [New]; [Rules.Classify] is one.
	Classify func(*http.Request) (Charge, bool)
	// Unclassified says what becomes of a request that Classify doesn't know.
	Unclassified Unclassified
	// Shedder answers requests with 503 while there is more to do than can be done. Nil: nothing
	// is shed.
	Shedder *Shedder
}

// Charge is what a request costs where its answer is a 2xx.
type Charge struct {
	// Meter is the meter's key. A key that the catalog doesn't have is answered with 500.
	Meter string
	// Quantity is in the meter's unit, up to [plans.MaxQuantity]. Zero is 1 for a
	// meter that sums, and the level 0 for others.
	Quantity int64
	// MaxBody is the largest body of the request, in bytes, and PlanBodies that of tenants on some
	// plans, by the plan's key. Larger ones are answered with 413, and nothing is charged. Zero, or
	// a plan that isn't there: MaxBody; that zero, too: any size.
	MaxBody    int64
	PlanBodies map[string]int64
}

// maxBody is the largest body on a plan, in bytes; 0: any size.
func (c *Charge) maxBody(plan string) int64 {
	return cmp.Or(c.PlanBodies[plan], c.MaxBody)
}

// Unclassified says what becomes of a request that no rule knows.
type Unclassified int

const (
	// PassUncounted lets it through without a plan check. It takes a rate-limit token.
	PassUncounted Unclassified = iota
	// Refuse answers it with 404.
	Refuse
)

// Counts adds up what a gate did since the process began.
type Counts struct {
	// RateLimited counts answers with 429.
	RateLimited int64
	// Released counts admitted requests that gave their quantity back: no 2xx.
	Released int64
	// Unclassified counts requests that no rule knew.
	Unclassified int64
}

// Enforcer decides on requests: plan check first, then the rate-limit token. Its
// methods may be called by any number of goroutines.
type Enforcer struct {
	config Config

	rateLimited, released, unclassified atomic.Int64

	// flagged holds, for what is over a soft limit, the end of the window in which
	// that was logged, in Unix nanoseconds.
	flaggedMu sync.RWMutex
	flagged   map[flagKey]int64
}

type flagKey struct {
	organization *meter.Organization
	index        meter.Index
}

// NewEnforcer makes an enforcer. It panics where Config.Meter is missing.
func NewEnforcer(config Config) *Enforcer {
	if config.Meter == nil {
		panic("gate: Config.Meter is required")
	}
	if config.UpgradeURL == nil {
		config.UpgradeURL = UpgradeURL
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Enforcer{config: config, flagged: map[flagKey]int64{}}
}

// Counts returns what the enforcer did so far.
func (e *Enforcer) Counts() Counts {
	return Counts{
		RateLimited:  e.rateLimited.Load(),
		Released:     e.released.Load(),
		Unclassified: e.unclassified.Load(),
	}
}

// Admission is a request that may go on. Its reservation must be settled.
type Admission struct {
	Decision    plans.Decision
	Reservation meter.Reservation
	// Plan is the key of the plan that was asked; empty while the store can't be.
	Plan string
}

// Admit decides whether a quantity may be used now: it reserves it, takes a
// rate-limit token, and sets the answer's headers. Where either says no, nothing is
// held, no token is gone, and the error is the [*Problem] to answer with. It may wait briefly
// for quota that other instances hold.
//
// Index comes from [meter.Meter.Index]; quantity is 0 to [plans.MaxQuantity], and
// at least 1 for a meter that sums. Now is the caller's time; the meter decides by its own
// clock where that is later, and the token is of the time of the decision.
func (e *Enforcer) Admit(
	ctx context.Context, h http.Header, o *meter.Organization, i meter.Index, quantity int64, now time.Time,
) (Admission, error) {
	if e.config.Meter.Refuses() != nil {
		return Admission{}, Unavailable(h)
	}
	decision, reservation, err := o.Admit(ctx, i, quantity, now)
	if err != nil {
		if problem := undecided(h, err); problem != nil {
			return Admission{}, problem
		}
		return Admission{}, Unavailable(h)
	}
	plan := o.Plan()
	if !decision.Allowed {
		return Admission{}, e.LimitProblem(o, i, plan.Key, decision)
	}
	if err := e.pace(h, o, plan.RateLimit, reservation.At()); err != nil {
		reservation.Release()
		return Admission{}, err
	}
	if decision.OverLimit {
		h[HeaderOverLimit] = overLimitValue
		e.flag(o, i, plan.Key, decision, reservation.Window())
	}
	return Admission{Decision: decision, Reservation: reservation, Plan: plan.Key}, nil
}

// Use is [Enforcer.Admit] of what is known to be used: it is counted in the same step, and there is
// nothing to settle. Where the plan or the rate limit says no, or it can't be counted, nothing is, and
// no token is gone.
func (e *Enforcer) Use(
	ctx context.Context, h http.Header, o *meter.Organization, i meter.Index, quantity int64, now time.Time,
) (meter.Outcome, error) {
	if e.config.Meter.Refuses() != nil {
		return meter.Outcome{}, Unavailable(h)
	}
	var pace Pace
	var take meter.Pace
	if e.config.Limiter != nil {
		take = func(limit plans.RateLimit, at time.Time) bool {
			pace = e.config.Limiter.Take(o, limit, at)
			return pace.Allowed
		}
	}
	out, err := o.Use(ctx, i, quantity, now, take)
	pace.setHeaders(h)
	if errors.Is(err, meter.ErrPaced) {
		e.rateLimited.Add(1)
		return meter.Outcome{}, rateProblem()
	}
	if err != nil {
		if problem := undecided(h, err); problem != nil {
			return meter.Outcome{}, problem
		}
		return meter.Outcome{}, Unavailable(h)
	}
	if !out.Decision.Allowed {
		return meter.Outcome{}, e.LimitProblem(o, i, out.Plan, out.Decision)
	}
	if out.Decision.OverLimit {
		h[HeaderOverLimit] = overLimitValue
		e.flag(o, i, out.Plan, out.Decision, out.Window)
	}
	return out, nil
}

var overLimitValue = []string{"true"}

// pace takes a token.
func (e *Enforcer) pace(h http.Header, o *meter.Organization, limit plans.RateLimit, now time.Time) error {
	if e.config.Limiter == nil {
		return nil
	}
	pace := e.config.Limiter.Take(o, limit, now)
	pace.setHeaders(h)
	if pace.Allowed {
		return nil
	}
	e.rateLimited.Add(1)
	return rateProblem()
}

// flag logs that an organization is over a soft limit: once a meter and window.
func (e *Enforcer) flag(o *meter.Organization, i meter.Index, plan string, d plans.Decision, w calendar.Window) {
	key, end := flagKey{o, i}, w.End.UnixNano()
	e.flaggedMu.RLock()
	logged := e.flagged[key] == end
	e.flaggedMu.RUnlock()
	if logged {
		return
	}
	e.flaggedMu.Lock()
	logged = e.flagged[key] == end
	e.flagged[key] = end
	e.flaggedMu.Unlock()
	if logged {
		return
	}
	e.config.Logger.Warn("Usage is over a soft limit", "organization", o.ID(), "plan", plan,
		"meter", e.config.Meter.Catalog().Meters[i].Key, "current", d.Current, "held", d.Held, "max", d.Max, "window_end", w.End)
}

// settle counts an admitted request, or gives its quantity back.
func (e *Enforcer) settle(r *meter.OpenReservation, counts bool) {
	if counts {
		r.Commit()
		return
	}
	if r.Release() {
		e.released.Add(1)
	}
}
