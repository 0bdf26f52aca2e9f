package pooler_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/pgstore/pooler"
)

func TestUnencrypted(t *testing.T) {
	for _, name := range []string{"PGSSLMODE", "PGHOST", "PGSERVICE", "PGSSLROOTCERT", "PGSERVICEFILE"} {
		t.Setenv(name, "")
	}
	for url, want := range map[string]string{
		"postgres://u:p@db.example/d":                                    "db.example",
		"postgres://u:p@db.example/d?sslmode=prefer":                     "db.example",
		"postgres://u:p@db.example/d?sslmode=allow":                      "db.example",
		"postgres://u:p@db.example/d?sslmode=disable":                    "db.example",
		"postgres://u:p@db.example/d?sslmode=require":                    "",
		"postgres://u:p@db.example/d?sslmode=verify-full":                "",
		"postgres://u:p@10.0.0.1:5432/d":                                 "10.0.0.1",
		"postgres://u:p@[2001:db8::1]/d":                                 "2001:db8::1",
		"postgres://u:p@localhost.example/d":                             "localhost.example",
		"postgres://u:p@localhost/d":                                     "",
		"postgres://u:p@LOCALHOST/d?sslmode=disable":                     "",
		"postgres://u:p@127.0.0.2/d":                                     "",
		"postgres://u:p@[::1]:5432/d":                                    "",
		"postgres:///d?host=/run/postgresql":                             "",
		"postgres:///d?host=db.example":                                  "db.example",
		"postgres://u:p@localhost/d?host=db.example":                     "db.example",
		"postgres://u:p@localhost:5432,db.example:5432/d":                "db.example",
		"postgres://u:p@a.example:5432,b.example:5432/d?sslmode=require": "",
		"no url": "",
	} {
		require.Equal(t, want, pooler.Unencrypted(url), url)
	}
	t.Setenv("PGSSLMODE", "verify-full")
	require.Empty(t, pooler.Unencrypted("postgres://u:p@db.example/d"))
	require.Equal(t, "db.example", pooler.Unencrypted("postgres://u:p@db.example/d?sslmode=disable"))
}
