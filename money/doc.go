// Package money is exact money: currencies with their minor units, decimals that are
// never floats, and the one place where an amount is rounded.
//
// It is pure: it reads no clock, and knows no store.
package money
