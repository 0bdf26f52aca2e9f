// Package fault has the kinds of errors that every package shares: what was said wrongly, what isn't
// there, and whether the same call may succeed later. Who answers a caller knows them by these
// types alone.
package fault
