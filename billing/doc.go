// Package billing is the pure part of a billing period: the period itself, the
// totals that are exported, the documents they are written as, and the manifest
// that lets anybody check them.
//
// The same frozen usage gives the same bytes: nothing here reads a clock, and
// every document has one order and one form.
package billing
