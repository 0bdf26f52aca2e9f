package pgstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
)

// Somebody's open transaction, a trigger's error or a number that overflows in one organization's
// window or terms lets nothing of it in while Postgres answers, though usage is let in where it is
// away, and holds up no other organization's requests.
func TestNoLimitOpensWhilePostgresAnswers(t *testing.T) {
	f := newFixture(t)
	var bolts []uuid.UUID
	raises := map[string]string{
		"deadlock": "40P01", "serialization": "40001", "canceled": "57014", "overflow": "22003", "raised": "P0001", "internal": "XX000", "undefined": "42883",
	}
	f.exec(`CREATE TABLE refusals (organization_id uuid, code text)`)
	f.exec(`GRANT SELECT ON refusals TO tollgate_api`)
	f.exec(`
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE said text;
		BEGIN
			SELECT code INTO said FROM refusals r WHERE r.organization_id = NEW.organization_id;
			IF said IS NOT NULL THEN
				RAISE EXCEPTION 'refused' USING ERRCODE = said;
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON quota_window_rows FOR EACH ROW EXECUTE FUNCTION refuse()`)
	for name, code := range raises {
		id := f.organization(name, "free").ID
		bolts = append(bolts, id)
		f.exec(`INSERT INTO refusals VALUES ($1, $2)`, id, code)
	}
	locked, acme := f.organization("Locked", "free").ID, f.organization("Acme", "free").ID
	f.lessee(windowOf(draft(locked, 1))).ask(10, 10)
	bolts = append(bolts, locked)
	holder := f.begin()
	_, err := holder.Exec(t.Context(), `SELECT FROM quota_window_rows WHERE organization_id = $1 FOR UPDATE`, locked)
	require.NoError(t, err)

	m := f.meteringBy(func(c *meter.Config) { c.Leases = f.Store })
	index, _ := m.meter.Index(evaluations)
	var wg sync.WaitGroup
	for _, id := range bolts {
		wg.Go(func() {
			for range 3 {
				_, _, err := m.organization(id).Admit(t.Context(), index, 1, time.Now())
				require.ErrorIs(t, err, meter.ErrQuotaRefused)
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			d, r, err := m.organization(acme).Admit(t.Context(), index, 1, time.Now())
			require.NoError(t, err)
			require.True(t, d.Allowed)
			r.Commit()
			time.Sleep(10 * time.Millisecond)
		}
	})
	wg.Wait()
	require.Zero(t, m.meter.Totals().Unleased)

	require.NoError(t, holder.Rollback(t.Context()))
	f.exec(`DELETE FROM refusals`)
	for _, id := range bolts {
		require.Eventually(t, func() bool {
			_, r, err := m.organization(id).Admit(t.Context(), index, 1, time.Now())
			r.Release()
			return err == nil
		}, 30*time.Second, 50*time.Millisecond, "it is asked again")
	}
	require.Zero(t, m.meter.Totals().Unleased)
}

// An organization whose terms Postgres doesn't let be read in time is refused, and not let in.
func TestALockedOrganizationIsRefused(t *testing.T) {
	f := newFixture(t)
	acme := f.organization("Acme", "free").ID
	holder := f.begin()
	_, err := holder.Exec(t.Context(), `LOCK TABLE organization_plans`)
	require.NoError(t, err)
	m := f.meteringBy(func(c *meter.Config) { c.Leases = f.Store })
	_, err = m.meter.Organization(t.Context(), acme, time.Now())
	require.ErrorIs(t, err, meter.ErrQuotaRefused)
	require.NoError(t, holder.Rollback(t.Context()))
	_, err = m.meter.Organization(t.Context(), acme, time.Now())
	require.NoError(t, err)
}
