package meter

import (
	"fmt"
	"sync"
	"time"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// drainLocks is one lock in stripes. A commit holds the read side of a
// stripe from before its record is journalled until it is counted; a drain takes all
// write sides for a moment, and begins another epoch. So a journal segment and the
// batch that is drained with it have exactly the same reports.
type drainLocks [16]struct {
	sync.RWMutex
	_ [40]byte
}

func (l *drainLocks) here() *sync.RWMutex { return &l[stripeHere(uint64(len(l)))].RWMutex }

func (l *drainLocks) lock() {
	for i := range l {
		l[i].Lock()
	}
}

func (l *drainLocks) unlock() {
	for i := range l {
		l[i].Unlock()
	}
}

// enter puts the slot on the list that the next drain takes, before usage is
// recorded. The caller holds the slot's lock and the drain lock. What an
// earlier drain is yet to take is set aside for it.
func (s *slot) enter(m *Meter) {
	epoch := m.epoch.Load()
	if s.epoch.Load() == epoch {
		return
	}
	m.dirtyMu.Lock()
	defer m.dirtyMu.Unlock()
	if s.epoch.Load() != 0 {
		m.setAside = s.drain(m.setAside)
	}
	s.epoch.Store(epoch)
	m.dirty = append(m.dirty, s)
}

// drained is a row on its way to the store, with the slot to tell of its arrival.
type drained struct {
	slot  *slot
	day   calendar.Day
	price price
	// has says that reports without an identity were folded into value; reports counts
	// them, those that a later one had overtaken included.
	has        bool
	reports    uint32
	value      int64
	at         int64
	leased     Leased
	identified []*IdentifiedReport
}

// drain appends a row for each day and price with usage, and forgets the days that nothing can
// add to any more. The caller holds the slot's lock.
func (s *slot) drain(rows []drained) []drained {
	first := len(rows)
	x := s.rare
	if x != nil {
		kept := x.older[:0]
		for i := range x.older {
			d := &x.older[i]
			d.taken = max(0, d.taken-d.pending)
			rows = d.drain(s, d.leased, rows)
			d.leased = Leased{}
			if d.open > 0 {
				kept = append(kept, *d)
			}
		}
		x.older = kept
	}
	rows = s.current.drain(s, s.takeLeasedPart(), rows)
	if x == nil {
		return rows
	}
	rows = s.addIdentified(rows, first)
	for i := range x.identified {
		x.acknowledgeTaken(x.identified[i].day, x.identified[i].identified.Quantity)
	}
	clear(x.identified)
	x.identified = x.identified[:0]
	if x.idle() {
		s.rare = nil
	}
	return rows
}

func (d *dayUsage) drain(s *slot, leased Leased, rows []drained) []drained {
	if !d.has && d.reports == 0 {
		return rows
	}
	rows = append(rows, drained{
		slot: s, day: d.day, price: d.price, has: d.has, reports: d.reports, value: d.pending, at: d.at, leased: leased,
	})
	d.pending, d.has, d.reports = 0, false, 0
	if s.meter.Aggregation != plans.Last {
		// The next row has a time of its own, which may be an earlier one.
		d.at = 0
	}
	return rows
}

// addIdentified appends the identified reports to the rows of their days and prices among rows[first:]. They are counted
// first, and go as they are: everybody waits for the slot meanwhile, and there may be as many as may wait.
func (s *slot) addIdentified(rows []drained, first int) []drained {
	of := make([]int, len(s.rare.identified))
	var counts []int
	for n := range s.rare.identified {
		e := &s.rare.identified[n]
		i := first
		for i < len(rows) && (rows[i].day != e.day || rows[i].price != e.price) {
			i++
		}
		if i == len(rows) {
			rows = append(rows, drained{slot: s, day: e.day, price: e.price})
		}
		for len(counts) < len(rows)-first {
			counts = append(counts, 0)
		}
		of[n] = i
		counts[i-first]++
	}
	for i, count := range counts {
		if count > 0 {
			rows[first+i].identified = make([]*IdentifiedReport, 0, count)
		}
	}
	for n, i := range of {
		rows[i].identified = append(rows[i].identified, s.rare.identified[n].identified)
	}
	return rows
}

// harvest is what a drain has taken.
type harvest struct {
	rows []drained
	// watermark is the time up to which it is complete.
	watermark time.Time
	// rotated says that a segment of the journal was sealed, whose sequence is sealed.
	rotated bool
	sealed  int64
}

// drain takes all usage that was committed since the last drain, and says up to
// when it is complete.
func (m *Meter) drain(now time.Time) harvest {
	if today := calendar.DayOf(now).Start().UnixNano(); today > m.sweptStart.Load() {
		m.sweptStart.Store(today)
		m.orgs.each(func(o *Organization) { o.roll(now.UnixNano()) })
	}
	m.redateOpen(now)
	h := harvest{watermark: m.openDays(now)}
	m.prepareJournal()

	m.drainLocks.lock()
	m.dirtyMu.Lock()
	taken := m.dirty
	m.dirty = m.spare[:0]
	m.dirtyMu.Unlock()
	epoch := m.epoch.Load()
	if len(taken) > 0 {
		m.epoch.Store(max(1, epoch+1))
		h.rotate(m)
	}
	m.drainLocks.unlock()
	if h.rotated {
		// Ahead of need: at the next drain there may be no room, or no descriptor, for it.
		m.prepareJournal()
	}

	h.rows = make([]drained, 0, len(taken))
	for _, s := range taken {
		s.lock()
		// One that has begun the next epoch has set its rows aside.
		if s.epoch.Load() == epoch {
			h.rows = s.drain(h.rows)
			s.epoch.Store(0)
		}
		s.mu.Unlock()
	}
	m.dirtyMu.Lock()
	h.rows = append(h.rows, m.setAside...)
	clear(m.setAside)
	m.setAside = m.setAside[:0]
	m.dirtyMu.Unlock()
	clear(taken)
	m.spare = taken[:0]
	return h
}

func (m *Meter) prepareJournal() {
	j := m.config.Journal
	if j == nil {
		return
	}
	if err := j.Prepare(); err != nil {
		m.config.Logger.Error("The journal can't be prepared for the next segment", "error", err)
	}
}

func (h *harvest) rotate(m *Meter) {
	j := m.config.Journal
	if j == nil {
		return
	}
	sealed, err := j.Rotate()
	if err != nil {
		m.config.Logger.Error("The journal can't begin another segment", "error", err)
		return
	}
	h.rotated, h.sealed = true, sealed
}

// openDays returns the watermark of a drain that begins now: just before the end of a
// day that reservations are still open on. It is read before the usage is taken: a
// reservation that settles in between delays the watermark, and never passes it.
func (m *Meter) openDays(now time.Time) time.Time {
	watermark := now
	m.heldMu.Lock()
	defer m.heldMu.Unlock()
	for day := range m.heldDays {
		if before := day.End().Add(-time.Microsecond); before.Before(watermark) {
			watermark = before
		}
	}
	return watermark
}

// holdDay counts reservations that are still open on a day that has passed.
func (m *Meter) holdDay(day calendar.Day, delta int64) {
	if delta == 0 {
		return
	}
	m.heldMu.Lock()
	defer m.heldMu.Unlock()
	m.heldDays[day] += delta
	if m.heldDays[day] == 0 {
		delete(m.heldDays, day)
	}
}

// roll moves every slot to the day of now.
func (o *Organization) roll(now int64) {
	v := o.view.Load()
	for i, s := range o.slots() {
		s.lock()
		if s.dayEnd != 0 {
			s.roll(v.entitlements[i].Window, now)
		}
		s.mu.Unlock()
	}
}

// journal keeps a report, before it is counted. The caller holds the drain lock.
func (m *Meter) journal(r *Reservation) error {
	record := Record{
		Organization: r.slot.org.id, Meter: r.slot.meter.Key, Day: r.day, Quantity: r.quantity, At: r.at,
	}
	priced := m.prices.name(r.price)
	record.Plan, record.PlanVersion = priced.plan, priced.version
	if r.quota != nil {
		record.Lease = r.quota.key.Kind
	}
	if e := r.identified; e != nil {
		record.Identity, record.Fingerprint, record.Batch, record.Receipt = e.Identity, e.Fingerprint, e.Batch, e.Receipt
	}
	return m.keep(record)
}

func (m *Meter) keep(record Record) error {
	if _, err := m.config.Journal.Append(record); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
