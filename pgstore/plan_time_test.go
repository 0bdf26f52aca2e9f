package pgstore_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// metering is an instance that meters on a real store.
type metering struct {
	f       *fixture
	meter   *meter.Meter
	flusher *meter.Flusher
	id      uuid.UUID
}

func (f *fixture) metering() *metering { return f.meteringBy(func(*meter.Config) {}) }

func (f *fixture) meteringBy(change func(*meter.Config)) *metering {
	f.t.Helper()
	m := &metering{f: f, id: uuid.Must(uuid.NewV7())}
	require.NoError(f.t, f.RegisterInstance(f.t.Context(), meter.Instance{ID: m.id, Host: "test", StartedAt: time.Now()}))
	now := func() time.Time { return time.Now().UTC() }
	config := meter.Config{
		Catalog: f.catalog(), Store: f.Store, Instance: m.id, Identities: f.Store, Now: now, Logger: slog.New(slog.DiscardHandler),
	}
	change(&config)
	m.meter = meter.New(config)
	m.flusher = meter.NewFlusher(meter.FlusherConfig{Meter: m.meter, Store: f.Store, Instance: m.id, Now: now})
	f.t.Cleanup(m.meter.Close)
	return m
}

func (m *metering) organization(id uuid.UUID) *meter.Organization {
	m.f.t.Helper()
	o, err := m.meter.Organization(m.f.t.Context(), id, time.Now())
	require.NoError(m.f.t, err)
	return o
}

// use reports usage now.
func (m *metering) use(id uuid.UUID, quantity int64) {
	m.f.t.Helper()
	index, _ := m.meter.Index(evaluations)
	d, r, err := m.organization(id).Admit(m.f.t.Context(), index, quantity, time.Now())
	require.NoError(m.f.t, err)
	require.True(m.f.t, d.Allowed)
	r.Commit()
}

// rows are the batch rows of evaluations: the plan, its version and the value.
func (m *metering) rows() (out []string) {
	m.f.t.Helper()
	_, err := m.flusher.Flush(m.f.t.Context())
	require.NoError(m.f.t, err)
	found, err := m.f.owner.Query(m.f.t.Context(), `
		SELECT plan, plan_version, sum(value)::bigint FROM usage_batch_rows GROUP BY plan, plan_version ORDER BY plan, plan_version`)
	require.NoError(m.f.t, err)
	defer found.Close()
	for found.Next() {
		var plan string
		var version, value int64
		require.NoError(m.f.t, found.Scan(&plan, &version, &value))
		out = append(out, fmt.Sprintf("%s/%d: %d", plan, version, value))
	}
	return out
}

// Within one flush interval: usage before an upgrade is the old plan's, usage after it the
// new one's, and one report with a time before it doesn't move it.
func TestUsageBelongsToThePlanOfItsTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "free", time.Now().AddDate(0, 0, -3)).ID
	m := f.metering()
	m.use(o, 5)
	index, _ := m.meter.Index(evaluations)
	d, held, err := m.organization(o).Admit(t.Context(), index, 7, time.Now())
	require.NoError(t, err)
	require.True(t, d.Allowed)
	upgraded := time.Now()
	f.changePlan(o, upgraded, "pro")
	require.NoError(t, m.meter.Reload(t.Context(), o, time.Now()))
	m.use(o, 11)
	held.Commit()
	out, err := m.organization(o).ReportKnown(t.Context(), meter.Report{Index: index, Quantity: 13, At: upgraded.Add(-time.Millisecond)}, nil)
	require.NoError(t, err)
	require.Equal(t, "pro", out.Plan, "the plan in force decides")
	_, err = m.organization(o).ReportKnown(t.Context(), meter.Report{
		Index: index, Quantity: 17, At: upgraded.AddDate(0, 0, -1), Identity: meter.KeyIdentity("k"), Fingerprint: meter.FingerprintOf("k"),
	}, nil)
	require.NoError(t, err)
	m.use(o, 19)
	require.Equal(t, []string{"free/1: 42", "pro/1: 30"}, m.rows())
	require.Empty(t, f.reconcile(calendar.DayOf(upgraded)-2, calendar.DayOf(upgraded)+1).Differences)
}

// A version that is published in between prices what it admits.
func TestUsageBelongsToTheVersionOfItsTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "pro", time.Now().AddDate(0, 0, -3)).ID
	m := f.metering()
	m.use(o, 5)
	before := time.Now()
	f.publishAt("pro", before)
	require.NoError(t, m.meter.SetCatalog(f.catalog()))
	m.use(o, 11)
	index, _ := m.meter.Index(evaluations)
	_, err := m.organization(o).ReportKnown(t.Context(), meter.Report{Index: index, Quantity: 13, At: before.Add(-time.Second)}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"pro/1: 18", "pro/2: 11"}, m.rows())
}

// A pending change and the end of a contract come into force by themselves.
func TestPendingTermsBeginByThemselves(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	now := time.Now()
	o := f.organizationSince("Acme", "pro", now.AddDate(0, 0, -3)).ID
	f.changePlan(o, now.Add(time.Hour), "free")
	f.exec(`INSERT INTO organization_plans (organization_id, effective_from, plan) VALUES ($1, $2, NULL)`, o, now.Add(2*time.Hour))
	m := f.metering()
	index, _ := m.meter.Index(evaluations)
	acme := m.organization(o)
	for _, want := range []struct {
		at   time.Time
		plan string
		err  error
	}{{now, "pro", nil}, {now.Add(time.Hour), "free", nil}, {now.Add(2 * time.Hour), "", meter.ErrContractEnded}} {
		_, r, err := acme.Admit(t.Context(), index, 1, want.at)
		require.ErrorIs(t, err, want.err)
		require.Equal(t, want.plan, acme.Plan().Key)
		require.Equal(t, want.err == nil, r.Held())
		r.Release()
	}
	_, err := acme.ReportKnown(t.Context(), meter.Report{Index: index, Quantity: 3}, nil)
	require.ErrorIs(t, err, meter.ErrContractEnded)
	_, err = acme.ReportKnown(t.Context(), meter.Report{Index: index, Quantity: 3, At: now.Add(-time.Hour)}, nil)
	require.NoError(t, err, "it was used under the contract")
	require.Equal(t, []string{"pro/1: 3"}, m.rows())
}

// The snapshot has the terms that usage may still be reported of, and those to come.
func TestSnapshotHasTheTerms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := func(days int) time.Time { return time.Now().UTC().AddDate(0, 0, days).Truncate(time.Microsecond) }
	o := f.organizationSince("Acme", "free", at(-90)).ID
	f.changePlan(o, at(-60), "pro")
	f.exec(`INSERT INTO organization_plans (organization_id, effective_from, plan) VALUES ($1, $2, NULL)`, o, at(-20))
	f.changePlan(o, at(-10), "free")
	f.changePlan(o, at(5), "pro")
	f.exec(`INSERT INTO organization_plans (organization_id, effective_from, plan) VALUES ($1, $2, NULL)`, o, at(9))
	snapshot, err := f.LoadOrganization(t.Context(), o, calendar.DayOf(time.Now()))
	require.NoError(t, err)
	require.Equal(t, "free", snapshot.Plan)
	var got []string
	for _, term := range snapshot.Terms {
		got = append(got, fmt.Sprintf("%.0f %s/%d", term.From.Sub(at(0)).Hours()/24, term.Plan, term.Version))
	}
	require.Equal(t, []string{"-60 pro/1", "-20 /0", "-10 free/1", "5 pro/1", "9 /0"}, got)
}

// A stored reservation is priced by the plan that it was made under.
func TestStoredReservationKeepsItsPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "free", time.Now().AddDate(0, 0, -3)).ID
	r := f.hold(draft(o, 5))
	f.changePlan(o, time.Now(), "pro")
	_, err := f.CommitReservation(t.Context(), o, r.ID, nil)
	require.NoError(t, err)
	require.EqualValues(t, 5, f.count(`SELECT value FROM usage_batch_rows WHERE plan = 'free' AND plan_version = 1`))
}
