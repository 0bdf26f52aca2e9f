package gate_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// reporter is an enforcer with an organization, without a server.
type reporter struct {
	*gate.Enforcer
	t            *testing.T
	organization *meter.Organization
	index        meter.Index
	log          *lockedBuffer
	header       http.Header
}

func newReporter(t *testing.T, plan string) *reporter {
	t.Helper()
	catalog, err := plans.Parse([]byte(testCatalog))
	require.NoError(t, err)
	m := meter.New(meter.Config{Catalog: catalog, Store: metertest.OnPlan(plan), Now: func() time.Time { return noon }})
	r := newRig(t, plan, func(c *gate.Config) { c.Meter = m })
	out := &reporter{Enforcer: r.enforcer, t: t, log: r.log}
	out.organization, err = m.Organization(t.Context(), uuid.Must(uuid.NewV7()), noon)
	require.NoError(t, err)
	out.index, _ = m.Index("evaluations")
	return out
}

// report sends a report under a key; known says whether the store knows it.
func (r *reporter) report(key string, quantity int64, known meter.KnownSet) (meter.Outcome, error) {
	r.header = http.Header{}
	return r.AdmitReport(r.t.Context(), r.header, r.organization, meter.Report{
		Index: r.index, Quantity: quantity, Identity: meter.KeyIdentity(key), Fingerprint: meter.FingerprintOf(key),
	}, known)
}

// refusal is the problem that an error is.
func refusal(t *testing.T, err error) *gate.Problem {
	t.Helper()
	var problem *gate.Problem
	require.ErrorAs(t, err, &problem)
	return problem
}

func TestReportsOverASoftLimitAreFlaggedOnce(t *testing.T) {
	r := newReporter(t, "soft")
	for _, key := range []string{"a", "b", "b"} {
		_, err := r.report(key, 3, nil)
		require.NoError(t, err)
		require.Equal(t, "true", r.header.Get(gate.HeaderOverLimit))
	}
	require.Equal(t, 1, strings.Count(r.log.String(), "Usage is over a soft limit"))
}

func TestReportsBeyondAHardLimit(t *testing.T) {
	r := newReporter(t, "hard")
	_, err := r.report("a", 3, nil)
	problem := refusal(t, err)
	require.Equal(t, http.StatusPaymentRequired, problem.Status)
	require.Equal(t, int64(0), *problem.Current)
	require.Equal(t, int64(2), *problem.Max)
	require.Equal(t, gate.UpgradeURL(r.organization.ID()), problem.UpgradeURL)
	_, err = r.report("a", 2, nil)
	require.NoError(t, err, "what was refused may come again")
}

func TestReportsAndTheirTokens(t *testing.T) {
	r := newReporter(t, "slow_hard")
	identity := meter.KeyIdentity("known")
	known := meter.KnownSet{identity: {Report: meter.IdentifiedReport{Identity: identity, Fingerprint: meter.FingerprintOf("known")}}}
	for range 5 {
		_, err := r.report("a", 2, nil)
		require.Equal(t, http.StatusPaymentRequired, refusal(t, err).Status, "plainly beyond the limit: no token")
		out, err := r.report("known", 1, known)
		require.NoError(t, err)
		require.True(t, out.Duplicate, "known before it is decided on: no token")
	}
	_, err := r.report("a", 1, nil)
	require.NoError(t, err)
	require.NotEmpty(t, r.header.Get("RateLimit"))
	require.NoError(t, r.Pace(http.Header{}, r.organization), "one token was left")
	require.Equal(t, http.StatusTooManyRequests, refusal(t, r.Pace(http.Header{}, r.organization)).Status)

	slow := newReporter(t, "slow")
	for _, key := range []string{"a", "b"} {
		_, err := slow.report(key, 1, nil)
		require.NoError(t, err)
	}
	_, err = slow.report("c", 1, nil)
	require.Equal(t, http.StatusTooManyRequests, refusal(t, err).Status)
	require.Equal(t, "1", slow.header.Get("Retry-After"))
	require.Equal(t, int64(2), slow.organization.Usage(slow.index, noon).Current, "a 429 counted nothing")
}

func TestAReusedIdentityIsTheCallersToTell(t *testing.T) {
	r := newReporter(t, "hard")
	_, err := r.report("a", 1, nil)
	require.NoError(t, err)
	_, err = r.AdmitReport(t.Context(), http.Header{}, r.organization, meter.Report{
		Index: r.index, Quantity: 1, Identity: meter.KeyIdentity("a"), Fingerprint: meter.FingerprintOf("other"),
	}, nil)
	require.ErrorIs(t, err, meter.ErrIdentityReused)
}

// Without a contract nothing is counted, and the answer says why.
func TestNothingIsCountedWithoutAContract(t *testing.T) {
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: metertest.OnPlan(""), Now: func() time.Time { return noon }})
	e := gate.NewEnforcer(gate.Config{Meter: m, Now: func() time.Time { return noon }})
	o, err := m.Organization(t.Context(), uuid.New(), noon)
	require.NoError(t, err)
	_, err = e.Admit(t.Context(), http.Header{}, o, 0, 1, noon)
	require.Equal(t, gate.ContractEndedProblem(), err)
	_, err = e.AdmitReport(t.Context(), http.Header{}, o, meter.Report{Quantity: 1}, nil)
	require.Equal(t, gate.ContractEndedProblem(), err)
	require.Zero(t, o.Usage(0, noon).Current)
}
