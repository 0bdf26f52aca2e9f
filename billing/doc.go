// Package billing is the pure part of a billing period: it rates what was used, makes
// statements with corrections and credits of them, tries other prices on past usage, and
// says how far an export is and who decided on it.
//
// The same frozen usage gives the same statements: nothing here reads a clock. The files
// that statements and usage are written as are in the package documents, which imports
// this one; an export remembers what they hold as a [Manifest].
package billing
