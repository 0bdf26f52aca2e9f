package pgstore_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/fault"
)

// TestSignIns begins, finds and ends sign-ins: each under the hash of its token alone.
func TestSignIns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := accounts.NewSecret(accounts.RoleAdmin)
	hash := accounts.HashSecret(secret)
	key, err := f.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleAdmin, Name: "root", Owner: "ada"}, hash)
	require.NoError(t, err)
	one, two := accounts.NewSignInToken(), accounts.NewSignInToken()
	require.NotEqual(t, one, two)
	none := accounts.SecretHash{}
	begun, err := f.BeginSignIn(t.Context(), hash, one.Hash(), none)
	require.NoError(t, err)
	found, err := f.SignIn(t.Context(), one.Hash())
	require.NoError(t, err)
	require.Equal(t, begun, found)
	require.Equal(t, key.ID, found.Key)
	require.Equal(t, hash, found.Secret)

	_, err = f.BeginSignIn(t.Context(), hash, two.Hash(), one.Hash())
	require.NoError(t, err)
	gone := func(token accounts.SignInToken) {
		t.Helper()
		_, err := f.SignIn(t.Context(), token.Hash())
		require.ErrorIs(t, err, fault.ErrNotFound)
	}
	gone(one)
	require.NoError(t, f.EndSignIn(t.Context(), two.Hash()))
	require.NoError(t, f.EndSignIn(t.Context(), two.Hash()), "what has ended stays so")
	gone(two)

	// It is over when it isn't used, and after a time in any case. Use is noted once a minute.
	for name, age := range map[string]string{"idle": "created_at - interval '3 hours'", "old": "created_at"} {
		token := accounts.NewSignInToken()
		begun, err := f.BeginSignIn(t.Context(), hash, token.Hash(), none)
		require.NoError(t, err)
		f.exec(`UPDATE sign_ins SET seen_at = seen_at - interval '5 minutes' WHERE id = $1`, begun.ID)
		_, err = f.SignIn(t.Context(), token.Hash())
		require.NoError(t, err)
		require.EqualValues(t, 1, f.count(`SELECT count(*) FROM sign_ins WHERE id = $1 AND seen_at > now() - interval '1 minute'`, begun.ID), name)
		f.exec(`UPDATE sign_ins SET seen_at = `+age+`, created_at = created_at - CASE WHEN $2 = 'old' THEN interval '13 hours' ELSE interval '4 hours' END WHERE id = $1`, begun.ID, name)
		gone(token)
	}

	require.NoError(t, f.RevokeKey(t.Context(), key.ID))
	_, err = f.BeginSignIn(t.Context(), hash, accounts.NewSignInToken().Hash(), none)
	require.ErrorIs(t, err, accounts.ErrKeyNotFound)
	_, err = f.BeginSignIn(t.Context(), accounts.HashSecret("tg_admin_x"), accounts.NewSignInToken().Hash(), none)
	require.ErrorIs(t, err, accounts.ErrKeyNotFound)
}

// TestPersonsSignIn holds that somebody of an identity provider acts for a key of his own, which is found again, and another
// one where that was revoked; and that no two people share one.
func TestPersonsSignIn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	none := accounts.SecretHash{}
	ada := accounts.Person{Issuer: "https://id.example", Subject: "1", Owner: "ada", Name: "Ada", Role: accounts.RoleFinance}
	begin := func(p accounts.Person) accounts.SignIn {
		t.Helper()
		token := accounts.NewSignInToken()
		begun, err := f.BeginPersonSignIn(t.Context(), p, token.Hash(), none)
		require.NoError(t, err)
		found, err := f.SignIn(t.Context(), token.Hash())
		require.NoError(t, err)
		require.Equal(t, begun, found)
		return begun
	}
	first := begin(ada)
	require.Equal(t, first.Key, begin(ada).Key)
	renamed := ada
	renamed.Name = "Ada L."
	require.Equal(t, first.Key, begin(renamed).Key)
	kept, err := f.KeyByHash(t.Context(), first.Secret)
	require.NoError(t, err)
	require.Equal(t, accounts.Key{ID: first.Key, Role: accounts.RoleFinance, Name: "Ada", Owner: "ada", Prefix: accounts.PersonPrefix, CreatedAt: kept.CreatedAt}, kept)

	organization := f.organization("Acme", "free").ID
	for name, change := range map[string]func(*accounts.Person){
		"issuer": func(p *accounts.Person) { p.Issuer = "https://id.example/" }, "subject": func(p *accounts.Person) { p.Subject = "2" },
		"owner": func(p *accounts.Person) { p.Owner = "grace" }, "role": func(p *accounts.Person) { p.Role = accounts.RoleAdmin },
		"organization": func(p *accounts.Person) { p.Role, p.Organization = accounts.RoleTenant, organization },
		"a border":     func(p *accounts.Person) { p.Issuer, p.Subject = "https://id.example1", "" },
	} {
		other := ada
		change(&other)
		require.NotEqual(t, first.Key, begin(other).Key, name)
	}
	// For four eyes he is one person, with a key of his own besides; two people are two.
	typed, err := f.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleFinance, Name: "laptop", Owner: "Ada"}, accounts.HashSecret(accounts.NewSecret(accounts.RoleFinance)))
	require.NoError(t, err)
	grant := billing.CreditGrant{Organization: organization, Currency: "USD", Amount: decimal.NewFromInt(5000), EffectiveAt: typed.CreatedAt, Note: "Order 7"}
	proposed, err := f.ProposeCredit(t.Context(), grant, first.Key)
	require.NoError(t, err)
	for _, himself := range []uuid.UUID{first.Key, typed.ID} {
		_, err = f.DecideProposal(t.Context(), proposed.ID, by(accounts.Key{ID: himself}, true))
		require.ErrorIs(t, err, accounts.ErrSecondPerson)
	}
	grace := ada
	grace.Subject, grace.Owner = "2", "grace"
	_, err = f.DecideProposal(t.Context(), proposed.ID, by(accounts.Key{ID: begin(grace).Key}, true))
	require.NoError(t, err)

	require.NoError(t, f.RevokeKey(t.Context(), first.Key))
	second := begin(ada)
	require.NotEqual(t, first.Key, second.Key)
	require.Equal(t, second.Key, begin(ada).Key)

	nowhere := ada
	nowhere.Role, nowhere.Organization = accounts.RoleTenant, uuid.New()
	_, err = f.BeginPersonSignIn(t.Context(), nowhere, accounts.NewSignInToken().Hash(), none)
	require.ErrorIs(t, err, accounts.ErrOrganizationNotFound)
	ada.Owner = "\u200b"
	_, err = f.BeginPersonSignIn(t.Context(), ada, accounts.NewSignInToken().Hash(), none)
	var field *fault.FieldError
	require.ErrorAs(t, err, &field)
}
