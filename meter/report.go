package meter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// ErrTooManyIdentified says that as many reports with an identity as may wait for the store do
// ([Config.MaxIdentified]): it is away, or takes fewer than come. Nothing was counted.
var ErrTooManyIdentified = fmt.Errorf("%w: too many reports with an identity wait for the store", ErrUnavailable)

// Report is a report of usage that is more than a quantity now: it may bear an
// identity, and a time of its own.
type Report struct {
	// Index is the meter's.
	Index Index
	// Quantity is in the meter's unit, 0 to [plans.MaxQuantity]. 0 of a sum is a report that
	// adds nothing.
	Quantity int64
	// At is the time of the usage, which the caller has found acceptable; one that is
	// ahead counts as now. Zero: now.
	At time.Time
	// Identity makes it countable once; zero: it bears none. Fingerprint is a digest of
	// all that the caller said.
	Identity    Identity
	Fingerprint Fingerprint
	// Batch is the key of the request that it came in, for a report with an identity; zero: it bore none.
	Batch BatchKey
}

// Outcome says what became of a report that was decided on.
type Outcome struct {
	Decision plans.Decision
	// Window is the one that was decided in.
	Window calendar.Window
	// Plan is the key of the plan that decided; empty while the store can't be asked.
	Plan string
	// Duplicate says that the report had been counted before: the other members are
	// those of the first one's receipt.
	Duplicate bool
}

// KnownSet holds reports that the store has counted, by their identity.
type KnownSet map[Identity]KnownReport

// identityKey is an identity, which is its organization's own.
type identityKey struct {
	organization uuid.UUID
	identity     Identity
}

// identities are those that were counted, or are being decided on, and that the store
// doesn't have.
type identities struct {
	shards [64]identityShard
	// count is how many there are; full says that some were refused since a flush has written any.
	count atomic.Int64
	full  atomic.Bool
}

type identityShard struct {
	mu    sync.Mutex
	known map[identityKey]*claim
}

// claim is one identity.
type claim struct {
	// done is closed when it is decided. Nil: nobody waits.
	done chan struct{}
	// day and report are what was counted; nil: nothing was, or it isn't decided.
	day    calendar.Day
	report *IdentifiedReport
}

// take returns the claim on an identity, and whether it is the caller's: then the
// caller decides it. Somebody else's is decided once undecided, unless that is nil, is closed. It is nil where
// there are as many as there may be.
func (s *identities) take(key identityKey, most int64) (c *claim, mine bool, undecided <-chan struct{}) {
	shard := s.of(key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if c, ok := shard.known[key]; ok {
		if c.report != nil {
			return c, false, nil
		}
		if c.done == nil {
			c.done = make(chan struct{})
		}
		return c, false, c.done
	}
	if s.count.Add(1) > most {
		s.count.Add(-1)
		return nil, false, nil
	}
	if shard.known == nil {
		shard.known = map[identityKey]*claim{}
	}
	c = &claim{}
	shard.known[key] = c
	return c, true, nil
}

// decide ends the deciding of a claim, with what was counted. One that wasn't, nil, may come again.
func (s *identities) decide(key identityKey, c *claim, day calendar.Day, report *IdentifiedReport) {
	shard := s.of(key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	c.day, c.report = day, report
	if report == nil {
		s.drop(shard, key)
	}
	if c.done != nil {
		close(c.done)
	}
}

// forget ends a claim.
func (s *identities) forget(key identityKey) {
	shard := s.of(key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	s.drop(shard, key)
}

// drop takes a claim out of its shard, if it is there. The caller holds the shard's lock.
func (s *identities) drop(shard *identityShard, key identityKey) {
	if _, there := shard.known[key]; there {
		delete(shard.known, key)
		s.count.Add(-1)
	}
}

func (s *identities) of(key identityKey) *identityShard {
	return &s.shards[key.identity[0]%uint8(len(s.shards))]
}

// crowded logs that reports with an identity are refused: once, until a flush has written some.
func (m *Meter) crowded() {
	if !m.identities.full.Swap(true) {
		m.config.Logger.Error("Reports with an identity are refused until the store has taken some: as many as may wait do",
			"waiting", m.Identified(), "most", m.config.MaxIdentified)
	}
}

// Identified counts the reports with an identity that the store doesn't have yet: those that wait for a
// flush, and those that are being decided on.
func (m *Meter) Identified() int64 { return m.identities.count.Load() }

// Known asks the store which of some identities it has counted. A store that can't
// answer is no error: a report that was counted before is then found out by the flush,
// and not counted again. Where more reports with an identity are undrained than the store takes in a moment, it
// waits for their drain first, for at most two seconds: who reports them comes no faster than they are written.
func (o *Organization) Known(ctx context.Context, ids []Identity) KnownSet {
	m := o.meter
	if len(ids) > 0 {
		m.crowd.await(ctx)
	}
	now := m.config.Now()
	if m.config.Identities == nil || len(ids) == 0 || now.UnixNano() < m.knownAway.Load() {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, m.config.KnownTimeout)
	defer cancel()
	found, err := m.config.Identities.KnownReports(asking, o.id, ids)
	if err != nil {
		if ctx.Err() == nil {
			m.knownAway.Store(now.Add(awayFor).UnixNano())
			m.config.Logger.Warn("Identities can't be looked up: repeated ones are found by the flush", "error", err)
		}
		return nil
	}
	known := make(KnownSet, len(found))
	for _, k := range found {
		known[k.Report.Identity] = k
	}
	return known
}

// ReportKnown decides on a report and counts it; known is what [Organization.Known] has
// returned of its identity, if it bears one. It may wait, as [Organization.Admit] does. An error
// says that it was not decided on: [ErrIdentityReused] where the identity was used with another
// report, [ErrTooManyIdentified], [ErrUnavailable] where it can't be taken now, [ErrQuantityOverflow] where its day can't
// hold the quantity, [ErrContractEnded] where there is no plan at its time, or the context's.
func (o *Organization) ReportKnown(ctx context.Context, r Report, known KnownSet) (Outcome, error) {
	if r.Identity == (Identity{}) {
		return o.report(ctx, r)
	}
	if k, ok := known[r.Identity]; ok {
		return k.Report.again(k.Day, r.Fingerprint)
	}
	key := identityKey{o.id, r.Identity}
	for {
		c, mine, undecided := o.meter.identities.take(key, int64(o.meter.config.MaxIdentified))
		switch {
		case mine:
			return o.decideClaimed(ctx, key, c, r)
		case c == nil:
			o.meter.crowded()
			return Outcome{}, ErrTooManyIdentified
		}
		if undecided != nil {
			select {
			case <-undecided:
			case <-ctx.Done():
				return Outcome{}, ctx.Err()
			}
		}
		if c.report != nil {
			return c.report.again(c.day, r.Fingerprint)
		}
	}
}

// decideClaimed decides on a report whose identity nobody else decides on.
func (o *Organization) decideClaimed(ctx context.Context, key identityKey, c *claim, r Report) (Outcome, error) {
	var counted *IdentifiedReport
	var on calendar.Day
	defer func() { o.meter.identities.decide(key, c, on, counted) }()
	out, day, report, err := o.reportIdentified(ctx, r)
	if err == nil && out.Decision.Allowed {
		on, counted = day, report
	}
	return out, err
}

// again is the answer to a report that was counted before, on a day.
func (r *IdentifiedReport) again(day calendar.Day, fingerprint Fingerprint) (Outcome, error) {
	if r.Fingerprint != fingerprint {
		return Outcome{}, ErrIdentityReused
	}
	receipt := r.Receipt
	d := plans.Decision{
		Allowed: true, OverLimit: receipt.OverLimit, Mode: receipt.Mode, Current: receipt.Current, Held: receipt.Held, Max: receipt.Max,
	}
	d.Remaining = plans.Entitlement{Mode: d.Mode, Max: d.Max}.Remaining(d.Current, d.Held)
	return Outcome{Decision: d, Window: receipt.Window.On(day), Plan: receipt.Plan, Duplicate: true}, nil
}

// report decides on a report without an identity, and counts it.
func (o *Organization) report(ctx context.Context, r Report) (out Outcome, err error) {
	if r.At.IsZero() {
		if done, err := o.useAtOnce(r.Index, r.Quantity, 0, nil, &out); done {
			return out, err
		}
	}
	out, reservation, err := o.decide(ctx, r)
	if reservation.Held() {
		err = reservation.TryCommit()
	}
	return out, err
}

// reportIdentified decides on a report with an identity, and counts it. It returns what was counted, and on which day.
func (o *Organization) reportIdentified(ctx context.Context, r Report) (Outcome, calendar.Day, *IdentifiedReport, error) {
	out, reservation, err := o.decide(ctx, r)
	if !reservation.Held() {
		return out, 0, nil, err
	}
	kind := calendar.WindowDay
	if out.Window.End.Sub(out.Window.Start) > 24*time.Hour {
		kind = calendar.WindowMonth
	}
	d := out.Decision
	identified := &IdentifiedReport{
		Identity: r.Identity, Fingerprint: r.Fingerprint, Batch: r.Batch, Quantity: r.Quantity, At: time.Unix(0, reservation.at).UTC(),
		Receipt: Receipt{Plan: out.Plan, Mode: d.Mode, OverLimit: d.OverLimit, Current: d.Current, Held: d.Held, Max: d.Max, Window: kind},
	}
	if q := reservation.quota; q != nil {
		identified.Leased = leasedOf(q.key.Kind, r.Quantity)
	}
	reservation.identified = identified
	return out, reservation.day, identified, reservation.TryCommit()
}

// decide decides on a report, and holds what is allowed.
func (o *Organization) decide(ctx context.Context, r Report) (Outcome, Reservation, error) {
	w := &wish{quantity: r.Quantity, reported: noTime}
	if !r.At.IsZero() {
		w.reported = r.At.UnixNano()
	}
	again := func() (plans.Decision, Reservation, *quota, verdict) { return o.reserve(r.Index, w) }
	d, reservation, _, v := again()
	err := v.err()
	if v == short {
		d, reservation, err = o.await(ctx, r.Index, r.Quantity, again)
	}
	if err != nil && errors.Is(err, errForgotten) {
		if o, err = o.meter.Organization(ctx, o.id, time.Unix(0, w.now)); err != nil {
			return Outcome{}, Reservation{}, err
		}
		return o.decide(ctx, r)
	}
	out := Outcome{Decision: d, Plan: o.Plan().Key, Window: reservation.Window()}
	if !reservation.Held() {
		out.Window = o.view.Load().entitlements[r.Index].Window.At(time.Unix(0, w.at))
	}
	return out, reservation, err
}

// decideAlone decides on a quantity of a window whose other usage isn't in memory. Only
// a level can be refused.
func (s *slot) decideAlone(e *plans.Entitlement, quantity int64) plans.Decision {
	limit := *e
	if s.meter.Aggregation == plans.Sum && limit.Mode == plans.Hard {
		limit.Mode = plans.Soft
	}
	d := plans.Decide(s.meter.Aggregation, limit, 0, 0, quantity)
	d.Mode = e.Mode
	return d
}
