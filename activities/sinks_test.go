package activities_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/sinks"
)

// nth returns an organization's id, in the order of the numbers.
func nth(n uint64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

// ledger has statements, one for each organization, and keeps deliveries.
type ledger struct {
	statements []sinks.Statement
	unknown    map[uuid.UUID]bool
	delivered  map[uuid.UUID]string
	err        error
}

func newLedger(organizations int) *ledger {
	l := &ledger{unknown: map[uuid.UUID]bool{}, delivered: map[uuid.UUID]string{}}
	for n := range organizations {
		l.statements = append(l.statements, sinks.Statement{Number: "TG-" + nth(uint64(n)).String(), Organization: nth(uint64(n + 1))})
	}
	return l
}

func (l *ledger) IssuedStatements(_ context.Context, _, after, until uuid.UUID, limit int) (page []sinks.Statement, err error) {
	for _, s := range l.statements {
		if bytes.Compare(s.Organization[:], after[:]) > 0 && bytes.Compare(s.Organization[:], until[:]) <= 0 && len(page) < limit {
			page = append(page, s)
		}
	}
	return page, l.err
}

func (l *ledger) Customers(_ context.Context, sink string, organizations []uuid.UUID) (map[uuid.UUID]string, error) {
	found := map[uuid.UUID]string{}
	for _, o := range organizations {
		if !l.unknown[o] {
			found[o] = sink + "/" + o.String()
		}
	}
	return found, nil
}

func (l *ledger) Deliveries(_ context.Context, _ uuid.UUID, _ string, organizations []uuid.UUID) (map[uuid.UUID]string, error) {
	found := map[uuid.UUID]string{}
	for _, o := range organizations {
		if id, ok := l.delivered[o]; ok {
			found[o] = id
		}
	}
	return found, nil
}

func (l *ledger) MarkDelivered(_ context.Context, _, organization uuid.UUID, _, externalID string) error {
	l.delivered[organization] = externalID
	return nil
}

// till takes statements.
type till struct {
	taken []string
	// err is answered at the statement with that number.
	err map[string]error
	// each is called with each statement. May be nil.
	each func()
}

func (*till) Name() string { return "till" }

func (t *till) Deliver(_ context.Context, customer string, s sinks.Statement) (string, error) {
	if t.each != nil {
		t.each()
	}
	if err := t.err[s.Number]; err != nil {
		return "", err
	}
	t.taken = append(t.taken, customer)
	return "in_" + s.Number, nil
}

var delivering = activities.DeliverStatementsInput{Export: uuid.Max}

func newSinks(l *ledger, sink activities.Sink) *activities.Sinks {
	return activities.NewSinks(activities.SinksConfig{Store: l, Sink: sink, PageSize: 3})
}

func TestDeliverStatements(t *testing.T) {
	t.Parallel()
	l, sink := newLedger(10), &till{}
	l.unknown[nth(2)], l.unknown[nth(9)] = true, true
	l.delivered[nth(5)] = "in_before"
	a := newSinks(l, sink)
	e := newEnvironment(t, a)
	result, err := run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
	require.NoError(t, err)
	require.Equal(t, activities.DeliverStatementsResult{Delivered: 7, Before: 1, WithoutCustomer: 2}, result)
	require.Len(t, sink.taken, 7)
	require.Equal(t, "till/"+nth(1).String(), sink.taken[0])
	require.Equal(t, "in_"+l.statements[0].Number, l.delivered[nth(1)])
	require.Equal(t, "in_before", l.delivered[nth(5)])
	beats := heartbeats[activities.DeliverHeartbeat](t, e)
	require.Equal(t, activities.DeliverHeartbeat{Organization: nth(10), Done: result}, beats[len(beats)-1])

	// Again: nothing is left.
	result, err = run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, delivering)
	require.NoError(t, err)
	require.Equal(t, activities.DeliverStatementsResult{Before: 8, WithoutCustomer: 2}, result)
	require.Len(t, sink.taken, 7)
}

func TestDeliverStatementsOfARange(t *testing.T) {
	t.Parallel()
	l, sink := newLedger(10), &till{}
	a := newSinks(l, sink)
	in := delivering
	in.After, in.Until = nth(3), nth(7)
	result, err := run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, in)
	require.NoError(t, err)
	require.Equal(t, int64(4), result.Delivered)
	require.False(t, slices.Contains(sink.taken, "till/"+nth(3).String()))
	require.True(t, slices.Contains(sink.taken, "till/"+nth(7).String()))
}

// Tried again, it goes on where it was, with its counts.
func TestDeliverStatementsGoesOn(t *testing.T) {
	t.Parallel()
	l, sink := newLedger(10), &till{}
	a := newSinks(l, sink)
	e := newEnvironment(t, a)
	e.SetHeartbeatDetails(activities.DeliverHeartbeat{
		Organization: nth(6), Done: activities.DeliverStatementsResult{Delivered: 5, WithoutCustomer: 1},
	})
	result, err := run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
	require.NoError(t, err)
	require.Equal(t, activities.DeliverStatementsResult{Delivered: 9, WithoutCustomer: 1}, result)
	require.Len(t, sink.taken, 4)
}

func TestDeliverStatementsFails(t *testing.T) {
	t.Parallel()
	l := newLedger(5)
	fourth := l.statements[3].Number
	for name, c := range map[string]struct {
		err error
		// kind is that of an error which isn't tried again.
		kind string
	}{
		"refused": {&sinks.Error{Sink: "till", Statement: fourth, Refused: true, Err: errors.New("no such customer")}, activities.TypeStatementRefused},
		"busy":    {&sinks.Error{Sink: "till", Statement: fourth, Err: errors.New("rate limited")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, sink := newLedger(5), &till{err: map[string]error{fourth: c.err}}
			a := newSinks(l, sink)
			e := newEnvironment(t, a)
			_, err := run[activities.DeliverStatementsResult](t, e, a.DeliverStatements, delivering)
			if c.kind != "" {
				requirePermanent(t, err, c.kind, fourth)
			} else {
				requireTriedAgain(t, err, fourth)
			}
			require.Len(t, l.delivered, 3, "those before it are delivered")
			beats := heartbeats[activities.DeliverHeartbeat](t, e)
			require.Equal(t, nth(3), beats[len(beats)-1].Organization)
		})
	}
	l.err = passingError("the store is away")
	a := newSinks(l, &till{})
	_, err := run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, delivering)
	requireTriedAgain(t, err, "the store is away")
}

func TestDeliverStatementsNeedsAnExportAndASink(t *testing.T) {
	t.Parallel()
	a := newSinks(newLedger(1), &till{})
	_, err := run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, activities.DeliverStatementsInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "export is missing")
	a = newSinks(newLedger(1), nil)
	_, err = run[activities.DeliverStatementsResult](t, newEnvironment(t, a), a.DeliverStatements, delivering)
	requirePermanent(t, err, activities.TypeNoSink, "TOLLGATE_STRIPE_KEY")
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
