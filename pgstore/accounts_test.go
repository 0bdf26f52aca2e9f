package pgstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/pgstore"
)

func TestOrganizations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	created := f.organization("Acme", "free")
	require.Equal(t, uuid.Version(7), created.ID.Version())
	require.Equal(t, "Acme", created.Name)
	require.False(t, created.CreatedAt.IsZero())
	_, offset := created.CreatedAt.Zone()
	require.Zero(t, offset, "times are UTC")

	got, err := f.Organization(t.Context(), created.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(created, got))
	_, err = f.Organization(t.Context(), uuid.Must(uuid.NewV7()))
	require.ErrorIs(t, err, fault.ErrNotFound)
	require.False(t, pgstore.Retryable(err))
}

func TestOrganizationFieldsHaveRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	gold, blank := "gold", " "
	_, unknownPlan := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Bolt", Plan: gold})
	_, blankName := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: blank, Plan: "free"})
	_, longName := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: strings.Repeat("x", 201), Plan: "free"})
	_, changedPlan := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Plan: &gold})
	_, changedName := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Name: &blank})
	for name, c := range map[string]struct {
		err   error
		field string
	}{
		"unknown plan": {unknownPlan, "plan"}, "blank name": {blankName, "name"}, "long name": {longName, "name"},
		"change to an unknown plan": {changedPlan, "plan"}, "change to a blank name": {changedName, "name"},
	} {
		var field *fault.FieldError
		require.ErrorAs(t, c.err, &field, name)
		require.Equal(t, c.field, field.Field, name)
	}
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM organizations`))
}

func TestListOrganizationsByPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var want []accounts.Organization
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		want = append(want, f.organization(name, "free"))
	}
	var got []accounts.Organization
	after := uuid.Nil
	for {
		page, err := f.ListOrganizations(t.Context(), after, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		require.LessOrEqual(t, len(page), 2)
		got = append(got, page...)
		after = page[len(page)-1].ID
	}
	require.Empty(t, cmp.Diff(want, got))
}

func TestUpdateOrganizationKeepsTheHistoryOfPlans(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	name, pro, enterprise := "Acme Ltd", "pro", "enterprise"
	renamed, err := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Name: &name})
	require.NoError(t, err)
	require.Equal(t, name, renamed.Name)
	require.Equal(t, "free", renamed.Plan)
	for _, plan := range []*string{&pro, &pro, &enterprise} {
		changed, err := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Plan: plan})
		require.NoError(t, err)
		require.Equal(t, *plan, changed.Plan)
		require.Equal(t, name, changed.Name)
		require.True(t, changed.UpdatedAt.After(o.UpdatedAt))
	}
	rows, err := f.owner.Query(t.Context(), `SELECT plan FROM organization_plans WHERE organization_id = $1 ORDER BY effective_from`, o.ID)
	require.NoError(t, err)
	history, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"free", "pro", "enterprise"}, history)
	require.EqualValues(t, 1, f.count(`
		SELECT count(*) FROM organization_plans p JOIN organizations o ON o.id = p.organization_id AND o.created_at = p.effective_from`),
		"the first plan is in force from the organization's start")

	_, err = f.UpdateOrganization(t.Context(), uuid.Must(uuid.NewV7()), accounts.OrganizationChange{Name: &name})
	require.ErrorIs(t, err, fault.ErrNotFound)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	given := uuid.Must(uuid.NewV7())
	admin, err := f.CreateKey(t.Context(), accounts.Key{ID: given, Role: accounts.RoleAdmin, Name: "root", Owner: " Ada  Lovelace", Prefix: "tg_admin_root"}, accounts.HashSecret("admin"))
	require.NoError(t, err)
	require.Equal(t, given, admin.ID)
	require.Equal(t, uuid.Nil, admin.Organization)
	require.Equal(t, "Ada Lovelace", admin.Owner)
	secret := accounts.NewSecret(accounts.RoleTenant)
	tenant, err := f.CreateKey(t.Context(), accounts.Key{
		Role: accounts.RoleTenant, Organization: o.ID, Name: "ci", MadeBy: admin.ID, Prefix: accounts.SecretPrefix(secret),
	}, accounts.HashSecret(secret))
	require.NoError(t, err)
	require.NotEqual(t, uuid.Nil, tenant.ID)

	got, err := f.KeyByHash(t.Context(), accounts.HashSecret(secret))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(tenant, got))
	_, err = f.KeyByHash(t.Context(), accounts.HashSecret("other"))
	require.ErrorIs(t, err, fault.ErrNotFound)

	for prefix, there := range map[string]bool{tenant.Prefix: true, "tg_tenant_----": false, "": false} {
		begins, err := f.KeyBegins(t.Context(), prefix)
		require.NoError(t, err)
		require.Equal(t, there, begins, prefix)
	}

	all, err := f.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]accounts.Key{admin, tenant}, all))
	own, err := f.ListKeys(t.Context(), &o.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]accounts.Key{tenant}, own))

	require.NoError(t, f.RevokeKey(t.Context(), tenant.ID))
	revoked, err := f.KeyByHash(t.Context(), accounts.HashSecret(secret))
	require.NoError(t, err, "a revoked key is found, so that the answer can say so")
	require.NotNil(t, revoked.RevokedAt)
	require.NoError(t, f.RevokeKey(t.Context(), tenant.ID))
	again, err := f.KeyByHash(t.Context(), accounts.HashSecret(secret))
	require.NoError(t, err)
	require.Equal(t, revoked.RevokedAt, again.RevokedAt, "revoked once")
	require.ErrorIs(t, f.RevokeKey(t.Context(), uuid.Must(uuid.NewV7())), fault.ErrNotFound)
}

func TestKeysRevokedSince(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var ids []uuid.UUID
	for _, name := range []string{"before", "after", "never"} {
		k, err := f.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleAdmin, Name: name, Owner: name, Prefix: name}, accounts.HashSecret(name))
		require.NoError(t, err)
		ids = append(ids, k.ID)
	}
	require.NoError(t, f.RevokeKey(t.Context(), ids[0]))
	revoked, asOf, err := f.KeysRevokedSince(t.Context(), time.Time{})
	require.NoError(t, err)
	require.Empty(t, revoked)
	require.NoError(t, f.RevokeKey(t.Context(), ids[1]))
	revoked, _, err = f.KeysRevokedSince(t.Context(), asOf)
	require.NoError(t, err)
	require.Equal(t, ids[1:2], revoked)
	revoked, _, err = f.KeysRevokedSince(t.Context(), asOf.Add(-time.Minute))
	require.NoError(t, err)
	require.ElementsMatch(t, ids[:2], revoked)
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hash := accounts.HashSecret("x")
	for name, c := range map[string]struct {
		key   accounts.Key
		field string
	}{
		"no role":                       {accounts.Key{Name: "k"}, "role"},
		"no name":                       {accounts.Key{Role: accounts.RoleAdmin}, "name"},
		"an administrator's of nobody":  {accounts.Key{Role: accounts.RoleAdmin, Name: "k"}, "owner"},
		"a tenant's of no organization": {accounts.Key{Role: accounts.RoleTenant, Name: "k"}, "organization_id"},
		"finance's of an organization":  {accounts.Key{Role: accounts.RoleFinance, Name: "k", Organization: uuid.Must(uuid.NewV7())}, "organization_id"},
	} {
		_, err := f.CreateKey(t.Context(), c.key, hash)
		var field *fault.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, c.field, field.Field, name)
	}
	_, err := f.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleTenant, Name: "k", Organization: uuid.Must(uuid.NewV7())}, hash)
	require.ErrorIs(t, err, fault.ErrNotFound)
}
