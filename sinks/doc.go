// Package sinks is the pure part of handing statements to other systems: what is
// handed over, and how a sink says that it refused it.
//
// A sink has a name by which its records are kept ("stripe"), and knows each
// organization by an identity of its own (a Stripe customer).
package sinks
