// Package pgtest gives tests a real Postgres: each test a migrated database of its
// own, made in milliseconds as a copy of a template.
//
// A package that uses it says so in its TestMain:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// or, together with a Temporal server:
//
//	func TestMain(m *testing.M) { pgtest.Main(temporaltest.Wrap(m)) }
//
// The tests of a binary share one server, which the first test that needs it starts. It
// is not durable: a crash of the machine may lose its data. If
// TOLLGATE_TEST_DATABASE_URL is set, to a superuser's URL, that server is used instead.
// A test whose server can't be had fails; it never skips.
//
// The servers that tests have for themselves begin as copies of one that is stopped: see image. Test binaries
// that run together share it, in the folder that TOLLGATE_TEST_SERVER_IMAGES names.
//
// Roles belong to a server and not to a database, so a test that drops the role
// tollgate_api, or restarts Postgres, takes a server of its own with NewServer.
package pgtest
