package activities_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
)

// nth returns an organization's id, in the order of the numbers.
func nth(n uint64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

// ledger has statements, one for each organization, and keeps deliveries.
type ledger struct {
	statements  []sinks.Issued
	delivered   map[uuid.UUID]string
	undelivered map[uuid.UUID]sinks.Undelivered
	// err is answered by every read, markErr by every record of what is undelivered.
	err, markErr error
}

func newLedger(organizations int) *ledger {
	l := &ledger{delivered: map[uuid.UUID]string{}, undelivered: map[uuid.UUID]sinks.Undelivered{}}
	for n := range organizations {
		organization := nth(uint64(n + 1))
		l.statements = append(l.statements, sinks.Issued{Customer: "till/" + organization.String(), Statement: sinks.Statement{
			Number: "TG-" + strconv.Itoa(n+1), Organization: organization, Currency: "USD",
			Lines: []sinks.Line{{Position: 1, Amount: decimal.NewFromInt(int64(n + 1))}},
		}})
	}
	return l
}

func (l *ledger) Sinks(context.Context) ([]string, error) { return []string{"till"}, nil }

func (l *ledger) StatementDeliveryPages(_ context.Context, _ uuid.UUID, size, most int) ([]uuid.UUID, error) {
	return []uuid.UUID{nth(uint64(size)), nth(uint64(most))}, l.err
}

func (l *ledger) IssuedStatements(_ context.Context, _ uuid.UUID, _ string, after, until uuid.UUID, limit int) (page []sinks.Issued, err error) {
	for _, s := range l.statements {
		if within(s.Organization, after, until) && len(page) < limit {
			s.ExternalID = l.delivered[s.Organization]
			page = append(page, s)
		}
	}
	return page, l.err
}

func within(organization, after, until uuid.UUID) bool {
	return bytes.Compare(organization[:], after[:]) > 0 && bytes.Compare(organization[:], until[:]) <= 0
}

func (l *ledger) MarkStatementDelivered(_ context.Context, _, organization uuid.UUID, _, externalID string) error {
	l.delivered[organization] = externalID
	delete(l.undelivered, organization)
	return nil
}

func (l *ledger) MarkStatementsUndelivered(_ context.Context, _ uuid.UUID, _ string, undelivered []sinks.Undelivered) error {
	if len(undelivered) > 0 && l.markErr != nil {
		return l.markErr
	}
	for _, u := range undelivered {
		l.undelivered[u.Organization] = u
	}
	return nil
}

func (l *ledger) StatementDeliveryCounts(_ context.Context, _ uuid.UUID, _ string, after, until uuid.UUID) (c sinks.Counts, err error) {
	for _, s := range l.statements {
		if !within(s.Organization, after, until) {
			continue
		}
		switch {
		case l.delivered[s.Organization] != "":
			c.Delivered++
		case l.undelivered[s.Organization].State == sinks.NoCustomer:
			c.NoCustomer++
		case l.undelivered[s.Organization].State == sinks.NothingDue:
			c.NothingDue++
		case l.undelivered[s.Organization].State == sinks.Unchanged:
			c.Unchanged++
		case l.undelivered[s.Organization].State == sinks.Failed:
			c.Failed++
		default:
			c.Pending++
		}
	}
	return c, nil
}

// till takes statements.
type till struct {
	taken []sinks.Statement
	asked int
	// err is answered at the statement with that number, always at every one.
	err    map[string]error
	always error
	// each is called with each statement. May be nil.
	each func()
}

func (*till) Name() string { return "till" }

func (t *till) Deliver(_ context.Context, customer string, s sinks.Statement) (string, error) {
	t.asked++
	if t.each != nil {
		t.each()
	}
	if t.always != nil {
		return "", t.always
	}
	if err := t.err[s.Number]; err != nil {
		return "", err
	}
	if customer != "till/"+s.Organization.String() {
		return "", errors.New("another one's customer: " + customer)
	}
	t.taken = append(t.taken, s)
	return "in_" + s.Number, nil
}

var delivering = activities.DeliverStatementsInput{Export: uuid.Max, Sink: "till", Until: uuid.Max}

func newSinks(l *ledger, sink activities.Sink) *activities.Sinks {
	return activities.NewSinks(activities.SinksConfig{Store: l, Sink: sink, PageSize: 3, Attempts: 3})
}

// deliver runs the activity, and again from its last heartbeat for as long as it fails for
// a reason that passes.
func deliver(t *testing.T, a *activities.Sinks, in activities.DeliverStatementsInput) (counts sinks.Counts, attempts int) {
	t.Helper()
	var last *activities.DeliverHeartbeat
	for {
		attempts++
		require.Less(t, attempts, 100, "it never ends")
		e := newEnvironment(t, a)
		if last != nil {
			e.SetHeartbeatDetails(*last)
		}
		result, err := run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, in)
		if err == nil {
			return result.Counts, attempts
		}
		requireTriedAgain(t, err, "")
		beats := heartbeats[activities.DeliverHeartbeat](t, e)
		last = &beats[len(beats)-1]
	}
}

func TestDeliverStatements(t *testing.T) {
	t.Parallel()
	l, sink := newLedger(10), &till{}
	l.statements[1].Customer, l.statements[8].Customer = "", ""
	l.statements[2].Lines = nil
	l.statements[3].Replaces = &sinks.Statement{Number: "TG-0", Currency: "USD", Lines: []sinks.Line{{Amount: decimal.NewFromInt(4)}}}
	l.statements[5].Replaces = &sinks.Statement{Number: "TG-0", Currency: "USD", Lines: []sinks.Line{{Amount: decimal.NewFromInt(4)}}}
	l.statements[6].Replaces = &sinks.Statement{Number: "TG-0", Currency: "EUR"}
	l.delivered[nth(5)] = "in_before"
	a := newSinks(l, sink)
	e := newEnvironment(t, a)
	result, err := run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
	require.NoError(t, err)
	want := sinks.Counts{Delivered: 5, NoCustomer: 2, NothingDue: 1, Unchanged: 1, Failed: 1}
	require.Equal(t, want, result.Counts)
	require.Len(t, sink.taken, 4)
	require.Equal(t, "2", sink.taken[1].Due().String(), "the difference alone")
	require.Equal(t, "in_TG-1", l.delivered[nth(1)])
	require.Equal(t, "in_before", l.delivered[nth(5)])
	require.Contains(t, l.undelivered[nth(7)].Reason, "in EUR and not in USD")
	require.Empty(t, l.undelivered[nth(2)].Reason)
	beats := heartbeats[activities.DeliverHeartbeat](t, e)
	require.Equal(t, activities.DeliverHeartbeat{Organization: nth(10)}, beats[len(beats)-1])

	// Again: nothing is left but what was skipped, of which one may be delivered now.
	l.statements[1].Customer = "till/" + nth(2).String()
	counts, _ := deliver(t, a, delivering)
	require.Equal(t, sinks.Counts{Delivered: 6, NoCustomer: 1, NothingDue: 1, Unchanged: 1, Failed: 1}, counts)
	require.Len(t, sink.taken, 5)
}

func TestDeliverStatementsOfARange(t *testing.T) {
	t.Parallel()
	l, sink := newLedger(10), &till{}
	in := delivering
	in.After, in.Until = nth(3), nth(7)
	counts, _ := deliver(t, newSinks(l, sink), in)
	require.Equal(t, sinks.Counts{Delivered: 4}, counts)
	require.Equal(t, []string{"TG-4", "TG-7"}, []string{sink.taken[0].Number, sink.taken[3].Number})
}

// Tried again, it goes on where it was.
func TestDeliverStatementsGoesOn(t *testing.T) {
	t.Parallel()
	l, sink := newLedger(10), &till{}
	a := newSinks(l, sink)
	e := newEnvironment(t, a)
	e.SetHeartbeatDetails(activities.DeliverHeartbeat{Organization: nth(6)})
	result, err := run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
	require.NoError(t, err)
	require.Equal(t, sinks.Counts{Delivered: 4, Pending: 6}, result.Counts)
	require.Len(t, sink.taken, 4)
}

// One statement that fails, for good or again and again, never stops the others.
func TestDeliverStatementsThatFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refused         bool
		attempts, asked int
	}{"refused": {true, 1, 5}, "cursed": {false, 3, 7}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(5)
			sink := &till{err: map[string]error{"TG-4": &sinks.Error{Sink: "till", Statement: "TG-4", Refused: c.refused, Err: errors.New("cursed")}}}
			counts, attempts := deliver(t, newSinks(l, sink), delivering)
			require.Equal(t, sinks.Counts{Delivered: 4, Failed: 1}, counts)
			require.Equal(t, c.attempts, attempts)
			require.Equal(t, c.asked, sink.asked)
			require.Contains(t, l.undelivered[nth(4)].Reason, "cursed")

			// By hand, once its cause is gone.
			sink.err = nil
			counts, _ = deliver(t, newSinks(l, sink), delivering)
			require.Equal(t, sinks.Counts{Delivered: 5}, counts)
		})
	}
}

// A sink that stays away is asked a few times, and holds up nothing for ever.
func TestDeliverStatementsWhileTheSinkIsAway(t *testing.T) {
	t.Parallel()
	l := newLedger(40)
	sink := &till{always: &sinks.Error{Sink: "till", Err: errors.New("bad gateway")}}
	counts, attempts := deliver(t, newSinks(l, sink), delivering)
	require.Equal(t, sinks.Counts{Failed: 40}, counts)
	require.Equal(t, 3, attempts, "of the first statement")
	require.Equal(t, 8, sink.asked, "and each of the next five once")
	require.Contains(t, l.undelivered[nth(1)].Reason, "bad gateway")
	require.Contains(t, l.undelivered[nth(40)].Reason, "was not asked")

	// It was away for a moment: nothing is lost.
	l, sink = newLedger(5), &till{always: sink.always}
	sink.each = func() {
		if sink.asked == 2 {
			sink.always = nil
		}
	}
	counts, attempts = deliver(t, newSinks(l, sink), delivering)
	require.Equal(t, sinks.Counts{Delivered: 5}, counts)
	require.Equal(t, 2, attempts)
}

func TestDeliverStatementsWithoutTheStore(t *testing.T) {
	t.Parallel()
	l := newLedger(4)
	l.err = passingError("the store is away")
	a := newSinks(l, &till{})
	_, err := run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, delivering)
	requireTriedAgain(t, err, "the store is away")
	l.err = billing.ErrNotIssued
	_, err = run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, delivering)
	requirePermanent(t, err, activities.TypeNotIssued, "not issued")
	_, err = run[activities.PlanDeliveryResult](t, newEnvironment(t, a), a.PlanDelivery, activities.PlanDeliveryInput{Export: uuid.Max, PageSize: 7})
	requirePermanent(t, err, activities.TypeNotIssued, "not issued")

	// What can't be recorded is not passed over.
	l.err, l.markErr = nil, passingError("the store is away")
	l.statements[0].Customer = ""
	e := newEnvironment(t, a)
	_, err = run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
	requireTriedAgain(t, err, "the store is away")
	beats := heartbeats[activities.DeliverHeartbeat](t, e)
	require.Equal(t, uuid.Nil, beats[len(beats)-1].Organization)
}

func TestListSinksAndPlanDelivery(t *testing.T) {
	t.Parallel()
	a := newSinks(newLedger(1), &till{})
	listed, err := run[activities.ListSinksResult](t, newEnvironment(t, a), a.ListSinks)
	require.NoError(t, err)
	require.Equal(t, []string{"till"}, listed.Sinks, "as the store says")
	plan, err := run[activities.PlanDeliveryResult](t, newEnvironment(t, a), a.PlanDelivery, activities.PlanDeliveryInput{Export: uuid.Max, PageSize: 7})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{nth(7), nth(activities.MaxPages)}, plan.Until)
	a = newSinks(newLedger(1), nil)
	listed, err = run[activities.ListSinksResult](t, newEnvironment(t, a), a.ListSinks)
	require.NoError(t, err)
	require.Equal(t, []string{"till"}, listed.Sinks, "a worker without the key answers the same")
}

func TestDeliverStatementsNeedsAnExportAndASink(t *testing.T) {
	t.Parallel()
	a := newSinks(newLedger(1), &till{})
	_, err := run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, activities.DeliverStatementsInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "export is missing")
	other := delivering
	other.Sink = "elsewhere"
	for _, c := range []struct {
		sink activities.Sink
		in   activities.DeliverStatementsInput
	}{{nil, delivering}, {&till{}, other}} {
		a = newSinks(newLedger(1), c.sink)
		_, err = run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, c.in)
		requirePermanent(t, err, activities.TypeNoSink, "TOLLGATE_STRIPE_KEY")
	}
}

// A cancel and a worker's stop end it between two statements.
func TestDeliverStatementsStops(t *testing.T) {
	t.Parallel()
	l := newLedger(5)
	ctx, cancel := context.WithCancel(t.Context())
	sink := &till{each: cancel}
	a := newSinks(l, sink)
	e := newEnvironment(t, a)
	e.cancelWith(ctx)
	_, err := run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
	require.Error(t, err)
	require.Len(t, sink.taken, 1)

	sink = &till{}
	a = newSinks(newLedger(5), sink)
	e = newEnvironment(t, a)
	sink.each = func() { close(e.stop) }
	_, err = run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
	requireTriedAgain(t, err, "another one takes over DeliverStatements")
	require.Len(t, sink.taken, 1)
}
