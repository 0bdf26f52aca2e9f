package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
)

// newKey makes a key of a person with another one; a zero one is made at the database.
func (f *fixture) newKey(role accounts.Role, owner string, with accounts.Key) accounts.Key {
	f.t.Helper()
	made, err := f.CreateKey(f.t.Context(), accounts.Key{Role: role, Name: owner + "'s", Owner: owner, MadeBy: with.ID}, accounts.HashSecret(uuid.NewString()))
	require.NoError(f.t, err)
	return made
}

func asActor(k accounts.Key) billing.Actor { return billing.Actor{ID: k.ID, Name: k.Name} }

// actor is a person of finance.
func (f *fixture) actor(owner string) billing.Actor {
	return asActor(f.newKey(accounts.RoleFinance, owner, accounts.Key{}))
}

func decisionBy(action billing.Action, who billing.Actor) billing.ExportDecision {
	d := billing.ExportDecision{ID: uuid.Must(uuid.NewV7()), Action: action, Actor: who, Note: "said why", At: time.Now()}
	if action == billing.ActionContinued {
		d.Without = []billing.AwaitedInstance{{Host: "api-1"}}
	}
	return d
}

// TestFourEyesAreTwoPeople holds that who approves, or goes on without an instance, is not who
// requested the export, with whichever of his keys or of those that he made; and that where nobody
// requested it, the reviewer counts.
func TestFourEyesAreTwoPeople(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	root := f.newKey(accounts.RoleAdmin, "root", accounts.Key{})
	cem := f.newKey(accounts.RoleAdmin, "Cem", root)
	ada, again := f.newKey(accounts.RoleFinance, "ada", root), f.newKey(accounts.RoleFinance, "Ada", cem)
	ben := f.newKey(accounts.RoleFinance, "ben", root)
	cems, madeByCem := f.newKey(accounts.RoleFinance, "cem", root), f.newKey(accounts.RoleFinance, "dia", cem)
	passed := f.newKey(accounts.RoleFinance, "eve", f.newKey(accounts.RoleAdmin, "eve", cem))
	nobody := accounts.Key{}

	for name, c := range map[string]struct {
		requester, reviewer, approver accounts.Key
		refused                       bool
	}{
		"two people":                              {ada, nobody, ben, false},
		"one key":                                 {ada, nobody, ada, true},
		"two keys of one person":                  {ada, nobody, again, true},
		"what a key that he made requested":       {madeByCem, nobody, cems, true},
		"with a key that the requester made":      {cems, nobody, madeByCem, true},
		"one that a key that he made has made":    {passed, nobody, cems, true},
		"two keys that somebody else made":        {passed, nobody, madeByCem, false},
		"the reviewer of what another requested":  {ada, ben, ben, false},
		"the reviewer of a schedule's":            {nobody, ada, ada, true},
		"another key of the reviewer's":           {nobody, ada, again, true},
		"a second person after a reviewer":        {nobody, ada, ben, false},
		"a schedule's that has nothing to review": {nobody, nobody, ada, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := f.requested(c.requester)
			if c.reviewer.ID != uuid.Nil {
				require.NoError(t, f.RecordDecision(t.Context(), e.ID, decisionBy(billing.ActionReviewed, asActor(c.reviewer))))
			}
			for _, action := range []billing.Action{billing.ActionContinued, billing.ActionApproved} {
				err := f.RecordDecision(t.Context(), e.ID, decisionBy(action, asActor(c.approver)))
				if c.refused {
					require.ErrorIs(t, err, accounts.ErrSecondPerson)
				} else {
					require.NoError(t, err)
				}
			}
			for _, action := range []billing.Action{billing.ActionRejected, billing.ActionCanceled, billing.ActionRetried} {
				require.NoError(t, f.RecordDecision(t.Context(), e.ID, decisionBy(action, asActor(c.approver))), "one person may %s", action)
			}
			allowed := decisionBy(billing.ActionApproved, asActor(c.approver))
			allowed.OnePerson = true
			require.NoError(t, f.RecordDecision(t.Context(), e.ID, allowed))
			trail, err := f.Decisions(t.Context(), e.ID)
			require.NoError(t, err)
			require.Equal(t, c.requester.Owner, trail[0].Actor.Owner)
			require.Equal(t, c.approver.Owner, trail[len(trail)-1].Actor.Owner, "the person is in the trail")
		})
	}
}

// TestWhoDecidesHasAKey holds that a decision is by a key of finance that works, whoever says what
// of it: not everybody who reaches Temporal has one.
func TestWhoDecidesHasAKey(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	ada := f.newKey(accounts.RoleFinance, "ada", accounts.Key{})
	e := f.requested(ada)
	ben, gone := f.newKey(accounts.RoleFinance, "ben", accounts.Key{}), f.newKey(accounts.RoleFinance, "gone", accounts.Key{})
	require.NoError(t, f.RevokeKey(t.Context(), gone.ID))
	for name, who := range map[string]billing.Actor{
		"no key":                {Name: "ben's"},
		"a key that is made up": {ID: uuid.New(), Name: "ben's"},
		"another's name":        {ID: ben.ID, Name: "ada's"},
		"a revoked key":         asActor(gone),
		"an administrator's":    asActor(f.newKey(accounts.RoleAdmin, "root", accounts.Key{})),
	} {
		for _, action := range []billing.Action{billing.ActionReviewed, billing.ActionApproved, billing.ActionRejected, billing.ActionCanceled} {
			d := decisionBy(action, who)
			require.ErrorIs(t, f.RecordDecision(t.Context(), e.ID, d), accounts.ErrNoActor, name)
			d.OnePerson = true
			require.ErrorIs(t, f.RecordDecision(t.Context(), e.ID, d), accounts.ErrNoActor, name)
		}
	}
	approved := decisionBy(billing.ActionApproved, asActor(ben))
	require.NoError(t, f.RecordDecision(t.Context(), e.ID, approved))
	require.NoError(t, f.RevokeKey(t.Context(), ben.ID))
	require.NoError(t, f.RecordDecision(t.Context(), e.ID, approved), "what is recorded stays so, however often it is tried")
}

// requested begins an export that a key requested; a zero one is a schedule's.
func (f *fixture) requested(by accounts.Key) billing.Export {
	f.t.Helper()
	run := uuid.NewString()
	e, _, err := f.BeginExport(f.t.Context(), billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: run, RunID: run, Cut: period.End(), RequestedBy: "somebody",
		RequestedByID: by.ID, RequestedAt: time.Now().Add(-time.Minute),
	})
	require.NoError(f.t, err)
	return e
}
