// Package pgstore keeps Tollgate's data in Postgres: it has all the SQL, and
// returns the types of the domain packages.
//
// Every transaction sets its scope first: one organization, or the platform. Row
// level security shows a transaction nothing beyond its scope, whatever its
// statements forget. README.md says which locks there are, and in which order
// they are taken.
//
// Numbers such as C5 are those of docs/contract.md.
package pgstore

//go:generate go tool -modfile=../tools/go.mod sqlc generate -f ../sqlc.yaml
