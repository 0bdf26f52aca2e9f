package pgstore_test

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/sinks"
)

// notAudited are the tables that no entry is written of, each with the reason. Of all others, each write is one.
var notAudited = map[string]string{
	"audit_entries": "the log itself", "audit_digests": "the log itself", "goose_db_version": "migrations",
	"idempotent_writes": "answers", "usage_keys": "answers",
	"instances": "processes, by themselves", "sinks": "processes, by themselves",
	"usage_turns": "has no rows", "usage_batches": "usage", "usage_batch_rows": "usage", "usage_daily": "usage", "usage_events": "usage", "usage_conflicts": "usage",
	"usage_batch_conflicts": "usage", "usage_missing_batches": "usage", "usage_rolled": "usage", "usage_rollups": "usage", "usage_retention": "usage", "usage_rollup_batches": "usage",
	"quota_window_rows": "usage", "quota_leases": "usage", "quota_lost_leases": "usage", "reservations": "usage", "reservations_stuck": "usage",
	"plan_changes":   "a queue of what organization_plans and plans have",
	"export_batches": "frozen", "export_meters": "frozen", "export_organizations": "frozen", "export_usage": "frozen", "export_segments": "frozen",
	"export_segment_usage": "frozen", "export_corrections": "frozen", "export_correction_batches": "frozen", "export_credits": "frozen",
	"statements": "made of what is frozen: their sums are in the manifest", "export_parked": "made of what is frozen",
	"export_variances": "made of what is frozen", "export_credit_uses": "made of what is frozen: the books have it",
	"statement_deliveries": "append-only, by the sinks", "statement_undelivered": "by the sinks",
	"events": "append-only", "webhook_deliveries": "their attempts have it", "webhook_attempts": "append-only",
}

func TestEveryTableIsAuditedOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rows, err := f.owner.Query(t.Context(), `
		SELECT c.relname, EXISTS (
			SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgfoid = 'tollgate_audit'::regproc AND g.tgenabled = 'O')
		FROM pg_class c
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition`)
	require.NoError(t, err)
	var table string
	var audited bool
	_, err = pgx.ForEachRow(rows, []any{&table, &audited}, func() error {
		reason, excepted := notAudited[table]
		require.NotEqual(t, audited, excepted, "%s has the trigger tollgate_audit, or is among notAudited (%q)", table, reason)
		return nil
	})
	require.NoError(t, err)
}

// somebody is an actor with a name that means something in SQL.
var somebody = accounts.Actor{
	Key: uuid.MustParse("01970000-0000-7000-8000-000000000001"), Name: `o'); DROP TABLE audit_entries; --\ "x" {{`, Owner: "ada@example.com",
	Role: accounts.RoleAdmin, Address: "2001:db8::1", RequestID: "r-1",
}

func (f *fixture) audited(ctx context.Context, filter audit.Filter) []audit.Entry {
	f.t.Helper()
	found, err := f.ListAudit(ctx, filter, uuid.Nil, 1000)
	require.NoError(f.t, err)
	return found
}

func TestAudit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := accounts.WithActor(t.Context(), somebody)
	o, err := f.CreateOrganization(ctx, accounts.NewOrganization{Name: "Acme", Plan: "free"})
	require.NoError(t, err)

	t.Run("who, what and what it was", func(t *testing.T) {
		name := "Acme & Co"
		_, err := f.UpdateOrganization(ctx, o.ID, accounts.OrganizationChange{Name: &name})
		require.NoError(t, err)
		found := f.audited(t.Context(), audit.Filter{Organization: o.ID, Kind: "organization", Actor: somebody.Key})
		require.Len(t, found, 2)
		e := found[0]
		require.Equal(t, audit.Changed, e.Action)
		require.Equal(t, o.ID.String(), e.Subject)
		require.Equal(t, []any{somebody.Name, "ada@example.com", "admin", "2001:db8::1", "r-1", "tollgate_api"},
			[]any{e.Actor, e.Owner, e.Role, e.Address, e.RequestID, e.Login})
		require.Equal(t, "Acme", field(t, e.Before, "name"))
		require.Equal(t, name, field(t, e.After, "name"))
		require.Nil(t, found[1].Before)
		require.WithinDuration(t, time.Now(), e.At, time.Minute)
	})

	t.Run("a secret is in no entry", func(t *testing.T) {
		_, err := f.CreateKey(ctx, accounts.Key{Role: accounts.RoleTenant, Organization: o.ID, Name: "k"}, accounts.HashSecret("s"))
		require.NoError(t, err)
		e := f.endpoint(o.ID)
		_, err = f.RotateEndpoint(ctx, o.ID, e.ID, "whsec_other", time.Now())
		require.NoError(t, err)
		keys, hooks := f.audited(t.Context(), audit.Filter{Kind: "key"}), f.audited(t.Context(), audit.Filter{Kind: "webhook"})
		require.Equal(t, "(hidden)", field(t, keys[0].After, "secret_hash"))
		require.Equal(t, "(hidden)", field(t, hooks[0].Before, "secret"))
		require.Equal(t, "(hidden, another)", field(t, hooks[0].After, "secret"))
		for _, one := range hooks {
			require.NotContains(t, string(one.Before)+string(one.After), "whsec_")
		}
		count := len(hooks)
		require.NoError(t, f.AdmitRedelivery(ctx, o.ID, e.ID))
		require.Len(t, f.audited(t.Context(), audit.Filter{Kind: "webhook"}), count, "no change of a person's")
	})

	t.Run("a customer that is mapped to another keeps its past", func(t *testing.T) {
		for _, customer := range []string{"cus_first", "cus_second", "cus_second"} {
			require.NoError(t, f.PutCustomer(ctx, sinks.Customer{Organization: o.ID, Sink: sinks.Stripe, ExternalID: customer}))
		}
		found := f.audited(t.Context(), audit.Filter{Organization: o.ID, Kind: "customer"})
		require.Len(t, found, 2)
		require.Equal(t, "cus_first", field(t, found[0].Before, "external_id"))
		require.Equal(t, "cus_second", field(t, found[0].After, "external_id"))
	})

	t.Run("SQL by hand is an entry, too", func(t *testing.T) {
		f.exec(`UPDATE organizations SET name = 'By hand' WHERE id = $1`, o.ID)
		e := f.audited(t.Context(), audit.Filter{Organization: o.ID, Kind: "organization"})[0]
		require.Equal(t, []any{(*uuid.UUID)(nil), "", ""}, []any{e.ActorID, e.Actor, e.RequestID})
		require.NotEqual(t, "tollgate_api", e.Login)
	})

	t.Run("money, as far as no export writes it", func(t *testing.T) {
		g, err := f.GrantCredit(ctx, creditOf(o.ID, "5"))
		require.NoError(t, err)
		_, err = f.VoidCredit(ctx, g.ID, "a mistake")
		require.NoError(t, err)
		require.Len(t, f.audited(t.Context(), audit.Filter{Kind: "credit", Organization: o.ID}), 1)
		entries := f.audited(t.Context(), audit.Filter{Kind: "credit_entry", Organization: o.ID})
		require.Len(t, entries, 2)
		require.Equal(t, "a mistake", field(t, entries[0].After, "note"))
	})

	t.Run("whoever decides on a close is known by what the row says", func(t *testing.T) {
		export := f.beginExport(calendar.PeriodOf(today.Start()), "run")
		k, err := f.CreateKey(ctx, accounts.Key{Role: accounts.RoleFinance, Name: "ada", Owner: "ada@example.com"}, accounts.HashSecret("finance"))
		require.NoError(t, err)
		by := billing.Actor{ID: k.ID, Name: "ada"}
		require.NoError(t, f.RecordDecision(t.Context(), export.ID, billing.ExportDecision{ID: uuid.New(), Action: billing.ActionReviewed, Actor: by, At: time.Now(), Note: "n"}))
		found := f.audited(t.Context(), audit.Filter{Kind: "decision", Actor: k.ID})
		require.NotEmpty(t, found)
		require.Equal(t, []string{"ada", "ada@example.com"}, []string{found[0].Actor, found[0].Owner})
		require.NotEmpty(t, f.audited(t.Context(), audit.Filter{Kind: "export"}))
	})

	t.Run("pages and times", func(t *testing.T) {
		all := f.audited(t.Context(), audit.Filter{})
		page, err := f.ListAudit(t.Context(), audit.Filter{}, all[2].ID, 2)
		require.NoError(t, err)
		require.Equal(t, all[3:5], page)
		require.Empty(t, f.audited(t.Context(), audit.Filter{From: time.Now().Add(time.Hour)}))
		require.Len(t, f.audited(t.Context(), audit.Filter{Until: time.Now().Add(time.Hour)}), len(all))
	})
}

func field(t *testing.T, row json.RawMessage, name string) any {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal(row, &fields))
	return fields[name]
}

// Nobody changes or deletes an entry: neither the programs, nor, without dropping a trigger, the owner.
func TestAuditIsAppendOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.organization("Acme", "free")
	require.Zero(t, f.count(`
		SELECT count(*) FROM information_schema.table_privileges
		WHERE table_name IN ('audit_entries', 'audit_digests') AND grantee IN ('tollgate_api', 'PUBLIC') AND privilege_type NOT IN ('SELECT', 'INSERT')`))
	for _, statement := range []string{
		`UPDATE audit_entries SET actor = 'nobody'`, `DELETE FROM audit_entries`, `TRUNCATE audit_entries`,
		`UPDATE audit_digests SET digest = ''`, `DELETE FROM audit_digests`, `TRUNCATE audit_digests`,
	} {
		_, err := f.owner.Exec(t.Context(), statement)
		requireCode(t, insufficientPrivilege, err, statement)
	}
}

// files are digests as a blob store keeps them.
type files map[string]string

func (f files) Open(_ context.Context, name string) (io.ReadCloser, error) {
	content, ok := f[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(content)), nil
}

func TestAuditDigests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	digest := func(into files) {
		days, previous, err := f.UndigestedDays(t.Context())
		require.NoError(t, err)
		for _, day := range days {
			d, err := audit.DigestOf(t.Context(), f, day, previous)
			require.NoError(t, err)
			content, err := d.Encode()
			require.NoError(t, err)
			into[d.File()] = string(content)
			require.NoError(t, f.PutDigest(t.Context(), d))
			previous = d.Digest
		}
	}
	days, _, err := f.UndigestedDays(t.Context())
	require.NoError(t, err)
	require.Empty(t, days, "today isn't over")

	// Whoever writes is waited for: its entry is of a time that may be of the day before.
	writing := f.begin()
	_, err = writing.Exec(t.Context(), `INSERT INTO organizations (id, name) VALUES (gen_random_uuid(), 'x')`)
	require.NoError(t, err)
	_, _, err = f.UndigestedDays(t.Context())
	require.Error(t, err)
	require.True(t, pgstore.Retryable(err))
	require.NoError(t, writing.Rollback(t.Context()))

	last := calendar.DayOf(time.Now()) - 1
	entry := func(day calendar.Day, subject string) {
		f.exec(`INSERT INTO audit_entries (at, kind, action, subject, after) VALUES ($1, 'organization', 'created', $2, '{"a": 1.50}')`, day.Start().Add(time.Hour), subject)
	}
	entry(last-2, "a")
	entry(last-2, "b")
	entry(last, "c")
	written := files{}
	digest(written)
	require.Len(t, written, 3)
	names := sorted(written)
	verify := func() (int, []audit.Finding) {
		checked, found, err := audit.Verify(t.Context(), f, written, names, last)
		require.NoError(t, err)
		return len(checked), found
	}
	checked, found := verify()
	require.Equal(t, 3, checked)
	require.Empty(t, found)
	again := files{}
	digest(again)
	require.Empty(t, again, "a day is digested once")

	// The owner turns the trigger off, and changes the past.
	f.exec(`ALTER TABLE audit_entries DISABLE TRIGGER append_only`)
	for _, one := range []struct{ change, problem string }{
		{`UPDATE audit_entries SET after = '{"a": 1.5}' WHERE subject = 'a'`, "others than those"},
		{`UPDATE audit_entries SET after = '{"a": 1.50}', actor = 'x' WHERE subject = 'a'`, "others than those"},
		{`DELETE FROM audit_entries WHERE subject = 'b'`, "has 1 entries, and had 2"},
	} {
		f.exec(one.change)
		_, found = verify()
		require.Len(t, found, 1, one.change)
		require.Equal(t, last-2, found[0].Day)
		require.Contains(t, found[0].Problem, one.problem)
	}
	// And writes the digest of that day anew: the next one doesn't continue it.
	kept, err := audit.DigestOf(t.Context(), f, last-2, "")
	require.NoError(t, err)
	content, err := kept.Encode()
	require.NoError(t, err)
	written[kept.File()] = string(content)
	_, found = verify()
	require.Equal(t, []audit.Finding{{Day: last - 1, Problem: "its digest does not continue that of the day before"}}, found)
	delete(written, kept.File())
	_, found = verify()
	require.Equal(t, []audit.Finding{{Day: last - 2, Problem: "it has no digest"}}, found)
	names = append(names, kept.OtherFile(), "audit/x")
	_, found = verify()
	require.Len(t, found, 3)
}
