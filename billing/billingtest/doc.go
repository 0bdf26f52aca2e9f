// Package billingtest gives tests of billing and its documents what they rate: an
// organization's months, drawn or made, and plans with prices.
package billingtest
