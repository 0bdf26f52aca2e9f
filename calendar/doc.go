// Package calendar has the days, windows, months and billing periods that usage belongs to. All
// of them are in UTC, and include their start but not their end.
package calendar
