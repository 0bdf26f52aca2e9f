// Package plans is the pure part of plan enforcement: the catalog of meters and
// plans, entitlements, the windows in which a limit applies, and [Decide], the
// one rule that says whether a quantity may be admitted.
//
// Nothing here reads a clock, a file or a database; every function takes what it
// needs as an argument, and the same arguments give the same answer.
package plans
