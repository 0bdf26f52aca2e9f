//go:build !pooler

package pgstore_test

import (
	"testing"

	"github.com/riverline/tollgate/internal/pgtest"
)

// storeURL is where the stores of the tests connect: to Postgres itself.
func storeURL(_ testing.TB, database *pgtest.Database) string { return database.APIURL }
