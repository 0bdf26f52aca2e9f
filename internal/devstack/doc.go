// Package devstack runs the services that Tollgate needs on one machine: a
// private Postgres and a Temporal dev server. `tollgate dev` and the tests use
// it; production connects to servers of its own.
//
// Both servers are real: the Postgres binaries found (or installed) on the
// machine, and the Temporal CLI found on the PATH or built once from its pinned
// Go module. They listen on loopback only, and they end with the process that
// started them, even if that is killed.
package devstack
