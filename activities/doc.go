// Package activities has the side effects of the workflows. Each group is a struct
// with the small interfaces that it needs; no two groups have a method of the same
// name, because Temporal knows an activity by that name alone.
//
// An activity may run more than once: it was tried again, or its answer was lost.
// So each leaves the same behind when it runs twice.
//
//   - [Instance] runs in an API process, on the queue of its own instance.
//   - [Fleet], [Rollup], [Credits], [Export], [Sinks] and [Webhooks] run in a worker, on
//     the shared queue.
package activities
