// Package events is the pure part of what Tollgate tells others: that a threshold or a
// limit was reached, that a plan changed, how far an export is. It says what an event
// is, and writes the document that receivers of webhooks get.
package events
