// Package gate puts metering in front of HTTP handlers.
//
// [New] makes gin middleware that finds out what a request will be charged for,
// checks the plan, takes a rate-limit token, runs the handler, and counts the
// request only where the answer is a 2xx:
//
//	classify → plan check (402) → rate-limit token (429) → handler → commit on 2xx, else release
//
// The plan check reserves the quantity, so that concurrent requests can't pass a
// limit together. A request that is refused with 402 costs no token, and one that
// is refused with 429 costs no quota.
//
// # When a request counts
//
// The reservation is settled when the final header goes out: a 2xx commits it,
// anything else releases it. A streamed answer therefore counts as soon as it
// begins, and stays counted although its body is cut; its reservation isn't held
// while it lasts. In particular:
//
//   - An informational answer (103, but not 101) settles nothing.
//   - A connection that is upgraded or hijacked (WebSocket) is no 2xx: it is released.
//   - A panic before the header is released, and goes on to whoever recovers it.
//   - A handler that gives up because its client is gone, and has neither written
//     anything nor set a status, is released.
//
// [Rules] classify requests by method and path, [NewProxy] forwards them to an
// upstream. [Enforcer] is the decision alone, for handlers that meter themselves.
package gate
