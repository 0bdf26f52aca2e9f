// Package meter is the hot path: it counts what organizations use, decides in
// memory whether they may use more, and drains what was used in batches that a
// [Store] writes exactly once.
//
// A [Meter] holds one [Organization] for each tenant that has called. Deciding
// and taking are one step under one small lock, so that callers who race for the
// last unit of a limit can't all get it:
//
//	decision, reservation, err := organization.Admit(ctx, index, 1, now)
//	if err != nil || !decision.Allowed {
//		// 402
//	}
//	// ... the work itself ...
//	reservation.Commit() // or reservation.Release()
//
// The path from a request to its decision touches neither the database nor the
// clock, and allocates nothing. A [Flusher] drains the meter at an interval.
//
// Numbers such as C5 are those of docs/contract.md.
package meter
