// Package temporaltest gives tests a real Temporal dev server. Tests that share a
// test binary share one server, and each has a namespace of its own.
//
// A package that uses it says so in its TestMain:
//
//	func TestMain(m *testing.M) { temporaltest.Main(m) }
//
// or, together with a Postgres:
//
//	func TestMain(m *testing.M) { pgtest.Main(temporaltest.Wrap(m)) }
//
// The server is started by the first test that needs it. If
// TOLLGATE_TEST_TEMPORAL_ADDRESS is set, that server is used instead. A test whose
// server can't be had fails; it never skips.
package temporaltest
