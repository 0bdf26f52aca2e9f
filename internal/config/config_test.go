package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/plans"
)

func TestDatabase(t *testing.T) {
	good := config.Database{DatabaseURL: "postgres://u:secret@localhost/db", MaxConnections: 16}
	require.NoError(t, good.Validate())
	for want, bad := range map[string]config.Database{
		"--database-url must be a URL":              {DatabaseURL: "localhost", MaxConnections: 16},
		"--database-url begins with mysql://":       {DatabaseURL: "mysql://u:secret@localhost/db", MaxConnections: 16},
		"--max-connections is 1: it must be 2 to 1": {DatabaseURL: good.DatabaseURL, MaxConnections: 1},
	} {
		err := bad.Validate()
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestCatalog(t *testing.T) {
	builtIn, err := config.Catalog{}.Load()
	require.NoError(t, err)
	require.Equal(t, plans.Default(), builtIn)

	_, err = config.Catalog{Catalog: filepath.Join(t.TempDir(), "none.yaml")}.Load()
	require.ErrorContains(t, err, "--catalog")
	require.ErrorIs(t, err, os.ErrNotExist)

	path := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(path, []byte("meters: []"), 0o600))
	_, err = config.Catalog{Catalog: path}.Load()
	require.ErrorIs(t, err, plans.ErrInvalidCatalog)
	require.ErrorContains(t, err, "bad.yaml")
}

func TestAddresses(t *testing.T) {
	require.NoError(t, config.CheckListen("--listen", ":8080"))
	require.ErrorContains(t, config.CheckListen("--listen", "8080"), "host:port")
	require.NoError(t, config.CheckHTTPURL("--upstream", ""))
	require.NoError(t, config.CheckHTTPURL("--upstream", "http://localhost:9000/base"))
	require.ErrorContains(t, config.CheckHTTPURL("--upstream", "localhost:9000"), "--upstream")
}
