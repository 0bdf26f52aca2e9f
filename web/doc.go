// Package web has the pages that people read and decide on: HTML, rendered here out of typed data,
// whole without a script; what moves is sent as server-sent events, which htmx puts in place.
//
// A page asks the API for all that it shows and changes, in this process and on behalf of its sign-in:
// roles, costs, rules, idempotency and the audit log are the API's. It computes no amount and decides
// nothing.
package web
