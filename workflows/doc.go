// Package workflows orchestrates flushes, rollups and exports on Temporal. It has no
// side effects of its own: what touches the world is in package activities.
//
//   - [FlushLoop] drives one API instance: it flushes in epochs, on demand, and for the last time.
//   - [RollUpDay] closes one day. [DailyRollUp] does it every day.
//   - [Housekeeping] deletes and expires what is over, every day.
//   - [ExportPeriod] exports one billing period. [MonthlyExport] does it every month.
//
// Each of FlushLoop, RollUpDay and ExportPeriod has one workflow ID for one instance,
// day or period, so that whoever starts it, from the schedule, the API, the command
// line or Temporal's UI, meets in one run. Package starter starts them.
package workflows
