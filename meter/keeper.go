package meter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
)

// keeper asks the store for leases, and gives them back. One ask of a quota is under
// way at a time; asks of different quotas go together in one call.
type keeper struct {
	meter *Meter
	mu    sync.Mutex
	queue []*quota
	// contested are due, too: the store could not decide on their last asks. contesting says that a
	// call of such is under way.
	contested  []*quota
	contesting bool
	// signal has room for one: there is something in the queue.
	signal chan struct{}
	end    context.CancelFunc
	calls  sync.WaitGroup
}

const (
	// keeperCalls is how many calls may be under way at once, keeperAsks how many asks go
	// in one.
	keeperCalls = 4
	keeperAsks  = 500
	// awayFor is how long the store is taken to be away after a call that failed; it is
	// asked again after keeperRetry.
	awayFor     = time.Second
	keeperRetry = 250 * time.Millisecond
	// refusedFor is how long a window whose ask the store refuses is refused by name; it is asked
	// again after refusedRetry.
	refusedFor   = 2 * time.Second
	refusedRetry = time.Second
)

func newKeeper(m *Meter) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{meter: m, signal: make(chan struct{}, 1), end: cancel}
	if !m.config.manualLeases {
		k.calls.Go(func() { k.run(ctx) })
	}
	return k
}

// stop ends the calls under way.
func (k *keeper) stop() {
	k.end()
	k.calls.Wait()
}

// enqueue says that an ask of a quota is due. The caller holds its slot's lock.
func (k *keeper) enqueue(q *quota) {
	if q.queued || q.asking {
		// Where one is under way, its answer finds out whether another is due.
		return
	}
	q.queued = true
	k.put(q, q.contested)
}

func (k *keeper) put(q *quota, contested bool) {
	k.mu.Lock()
	if contested {
		k.contested = append(k.contested, q)
	} else {
		k.queue = append(k.queue, q)
	}
	k.mu.Unlock()
	k.wake()
}

func (k *keeper) wake() {
	select {
	case k.signal <- struct{}{}:
	default:
	}
}

// take returns asks to make in one call, and what to call after it. Those that the store could not
// decide on are apart from the others, in one call at a time: it may take long.
func (k *keeper) take() (batch []*quota, done func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	from, done := &k.queue, func() {}
	if len(k.queue) == 0 && !k.contesting && len(k.contested) > 0 {
		k.contesting = true
		from, done = &k.contested, func() {
			k.mu.Lock()
			k.contesting = false
			k.mu.Unlock()
			k.wake()
		}
	}
	n := min(len(*from), keeperAsks)
	batch = slices.Clone((*from)[:n])
	*from = slices.Delete(*from, 0, n)
	return batch, done
}

func (k *keeper) run(ctx context.Context) {
	free := make(chan struct{}, keeperCalls)
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.signal:
		}
		for {
			select {
			case <-ctx.Done():
				return
			case free <- struct{}{}:
			}
			batch, done := k.take()
			if len(batch) == 0 {
				<-free
				break
			}
			k.calls.Go(func() {
				defer func() { <-free }()
				defer done()
				k.ask(ctx, batch)
			})
		}
	}
}

// ask makes one call.
func (k *keeper) ask(ctx context.Context, batch []*quota) {
	m := k.meter
	asks := make([]LeaseAsk, len(batch))
	// Before the asks are made: what they leave out is in no later batch than the store has then.
	by := BatchID{Instance: m.config.Instance, Seq: m.acknowledged.Load()}
	now := m.config.Now().UnixNano()
	for i, q := range batch {
		q.slot.lock()
		q.queued, q.asking = false, true
		asks[i] = q.ask(now)
		q.slot.mu.Unlock()
	}
	calling, cancel := context.WithTimeout(ctx, m.config.AskTimeout)
	defer cancel()
	began := m.config.Now()
	answers, err := m.config.Leases.AdjustLeases(calling, by, asks)
	if err == nil && len(answers.Answers) != len(asks) {
		err = fmt.Errorf("the store gave %d answers to %d asks", len(answers.Answers), len(asks))
	}
	switch {
	case errors.Is(err, ErrAskRefused):
		k.refused(ctx, batch, err)
		return
	case errors.Is(err, ErrAskContested):
		k.contend(ctx, batch, err)
		return
	case isBehind(err):
		k.behind(ctx, batch, err)
		return
	case err != nil:
		k.failed(ctx, batch, err)
		return
	}
	if was := m.leasesAway.Swap(0); was != 0 {
		m.config.Logger.Info("Leases can be had from the store again")
	}
	m.LeasesValid(began.Add(-answers.SeenAgo))
	now = m.config.Now().UnixNano()
	for i, q := range batch {
		k.answered(ctx, q, answers.Answers[i], now)
	}
}

func (k *keeper) answered(ctx context.Context, q *quota, answer LeaseAnswer, now int64) {
	if answer.Outdated {
		k.reload(ctx, q.key.Organization)
	}
	q.slot.lock()
	defer q.slot.mu.Unlock()
	q.asking, q.barred, q.contested, q.refusedUntil = false, decided, false, 0
	again, pause := q.adopt(answer, now)
	if again {
		k.later(ctx, q, pause)
	}
	q.slot.forgetFinished()
}

// later enqueues a quota after a pause. The caller holds its slot's lock.
func (k *keeper) later(ctx context.Context, q *quota, pause time.Duration) {
	if q.queued {
		return
	}
	q.queued = true
	if pause == 0 || k.meter.config.manualLeases {
		k.put(q, q.contested)
		return
	}
	contested := q.contested
	time.AfterFunc(pause, func() {
		if ctx.Err() == nil {
			k.put(q, contested)
		}
	})
}

// failed lets go what waits (C5), and asks again what must be asked.
func (k *keeper) failed(ctx context.Context, batch []*quota, err error) {
	if ctx.Err() != nil {
		return
	}
	m := k.meter
	now := m.config.Now().UnixNano()
	m.leasesAwayFor.Store(&err)
	if was := m.leasesAway.Swap(now + int64(awayFor)); was == 0 {
		m.config.Logger.Warn("Leases can't be had from the store", "deny", m.config.DenyUnleased, "error", err)
	}
	for _, q := range batch {
		q.slot.lock()
		q.asking = false
		q.wake()
		// Whether the call was carried out is not known: the next one names the outcome
		// again. What is free stays so: it was issued, or is asked back below.
		k.later(ctx, q, keeperRetry)
		q.slot.mu.Unlock()
	}
}

// behind has the store brought up to date, where it has lost what it had acknowledged, and
// asks again. It answers, so no limit opens: who waits is told so by name in the end.
func (k *keeper) behind(ctx context.Context, batch []*quota, err error) {
	if ctx.Err() != nil {
		return
	}
	m := k.meter
	m.config.Logger.Warn("The store grants no leases before it has what it had acknowledged", "error", err)
	if m.config.Behind != nil {
		m.config.Behind()
	}
	for _, q := range batch {
		q.slot.lock()
		q.asking, q.barred = false, unavailable
		k.later(ctx, q, keeperRetry)
		q.slot.mu.Unlock()
	}
}

// away reports whether the store can't be asked for quota.
func (q *quota) away(at int64) bool { return at < q.slot.org.meter.leasesAway.Load() }

// reload reads an organization whose plan has changed, so that the next ask is by the
// new one.
func (k *keeper) reload(ctx context.Context, id uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, k.meter.config.LoadTimeout)
	defer cancel()
	if err := k.meter.Reload(ctx, id, k.meter.config.Now()); err != nil && ctx.Err() == nil {
		k.meter.config.Logger.Warn("Organization on another plan could not be read", "organization", id, "error", err)
	}
}

// Recall gives back what this instance doesn't use of a window's quota: another
// instance needs it.
func (m *Meter) Recall(key QuotaWindow) {
	m.withQuota(key, (*quota).giveBackFree)
}

// LeasesValid says that the store has seen this instance, which did so at a time: until
// [Config.LeaseFor] after it, the leases are the instance's own. Where they may have
// been released meanwhile, it begins without any.
func (m *Meter) LeasesValid(at time.Time) {
	if m.keeper == nil || m.config.LeaseFor == 0 {
		return
	}
	until := at.Add(m.config.LeaseFor).UnixNano()
	if was := m.leasesUntil.Load(); was < m.config.Now().UnixNano() {
		m.eachQuota((*quota).forfeit)
	}
	if m.leasesUntil.Load() < until {
		m.leasesUntil.Store(until)
	}
}

// eachQuota calls fn for every quota, under its slot's lock.
func (m *Meter) eachQuota(fn func(*quota)) {
	m.orgs.each(func(o *Organization) { o.eachQuota(fn) })
}

// eachQuota calls fn for every quota, under its slot's lock.
func (o *Organization) eachQuota(fn func(*quota)) {
	for _, s := range o.slots() {
		s.lock()
		s.eachQuota(fn)
		s.mu.Unlock()
	}
}

// replan applies another plan to an organization's quotas. What is free of a limit that
// was raised, or stays, is kept; otherwise it is asked for anew, by the plan in force.
// Each slot is locked once: what was decided on before that was by the plan before,
// and is in the slot.
func (o *Organization) replan(was, now *view) {
	if o.meter.keeper == nil {
		return
	}
	for i, s := range o.slots() {
		if int(i) >= len(was.entitlements) {
			return
		}
		s.lock()
		s.replan(i, was, now, o.meter.config.Now().UnixNano())
		s.mu.Unlock()
	}
}

// replan applies another plan to the quotas of a slot.
func (s *slot) replan(i Index, was, now *view, at int64) {
	e, before := now.entitlements[i], was.entitlements[i]
	if s.dayEnd == 0 {
		return
	}
	s.roll(e.Window, at)
	same := now.leased[i] && was.leased[i] && e.Window == before.Window
	// A version that was in force in between, and never here, may have allowed more to others.
	skipped := now.plan.Key == was.plan.Key && now.plan.Version > was.plan.Version+1
	s.eachQuota(func(q *quota) {
		q.forgetDry()
		q.active = q == s.quota && now.leased[i] && e.Window == q.key.Kind
		if !same || skipped || e.Max < before.Max || !q.active {
			q.forfeit()
		}
	})
	if !now.leased[i] || same {
		return
	}
	if s.epoch.Load() != 0 {
		s.org.meter.unflushed.Store(true)
	}
	s.org.meter.switched.Store(true)
	window := e.Window.On(s.current.day)
	if s.heldIn(calendar.DayOf(window.Start), calendar.DayOf(window.End)) > 0 {
		s.quotaFor(e.Window, i, s.current.day).adoptOpen()
	}
}

// eachQuota calls fn for every quota of a slot.
func (s *slot) eachQuota(fn func(*quota)) {
	if s.quota != nil {
		fn(s.quota)
	}
	if s.rare != nil {
		for _, q := range s.rare.quotas {
			fn(q)
		}
	}
}
