package pgstore_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Organizations are sought by the begin of their name or ID, whatever a pattern makes of it.
func TestSearchOrganizations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme, other := f.organization("Acme & Sons", "free").ID, f.organization("acme, again", "free").ID
	f.organization("Bolt", "free")
	f.organization("100% Ærø_", "free")
	// A name that is the ID finds its organization once.
	own := f.organization("of itself", "free").ID
	f.exec(`UPDATE organizations SET name = id::text || ' itself' WHERE id = $1`, own)
	names := func(begin string, limit int) string {
		found, err := f.SearchOrganizations(t.Context(), begin, limit)
		require.NoError(t, err)
		var out []string
		for _, o := range found {
			require.Equal(t, "free", o.Plan)
			out = append(out, o.Name)
		}
		return strings.Join(out, "; ")
	}
	for begin, want := range map[string]string{
		"ACME": "Acme & Sons; acme, again", "acme,": "acme, again", "cme": "", "100%": "100% Ærø_", "%": "", "_": "",
		acme.String(): "Acme & Sons", other.String()[:35]: names(other.String()[:35], 10), strings.ToUpper(acme.String()): "Acme & Sons", "' OR ''='": "",
	} {
		require.Equal(t, want, names(begin, 10), begin)
	}
	require.Equal(t, own.String()+" itself", names(own.String(), 10))
	require.Equal(t, "Acme & Sons", names("acme", 1))
	require.NotEmpty(t, names(other.String()[:35], 10))
}

// The search goes by its index, also as the programs' own role, whom row-level security binds.
func TestSearchGoesByAnIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// Nobody needs an entry of the audit log for each.
	f.exec(`ALTER TABLE organizations DISABLE TRIGGER USER`)
	f.exec(`INSERT INTO organizations (id, name) SELECT gen_random_uuid(), 'Organization ' || n FROM generate_series(1, 20000) AS n`)
	f.exec(`ANALYZE organizations`)
	as, err := pgx.Connect(t.Context(), f.db.APIURL)
	require.NoError(t, err)
	defer as.Close(t.Context())
	_, err = as.Exec(t.Context(), `SELECT set_config('tollgate.scope', 'platform', false)`)
	require.NoError(t, err)
	for name, query := range map[string]string{
		"organizations_sought_as": `SELECT * FROM organizations WHERE sought_as ~>=~ lower('Organization 17') AND sought_as ~<=~ (lower('Organization 17') || chr(1114111))
			ORDER BY sought_as USING ~<~, id LIMIT 50`,
		"organizations_pkey": `SELECT * FROM organizations WHERE id BETWEEN '0199a000-0000-0000-0000-000000000000' AND '0199a000-ffff-ffff-ffff-ffffffffffff' ORDER BY id LIMIT 50`,
	} {
		rows, err := as.Query(t.Context(), "EXPLAIN "+query)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		says := strings.Join(plan, "\n")
		require.Contains(t, says, name)
		require.Contains(t, says, "Index Cond", name)
		require.NotContains(t, says, "Seq Scan", name)
	}
}
