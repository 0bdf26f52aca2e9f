// Package webhookclient sends events to the endpoints of webhooks. Their addresses are
// chosen by strangers, so it refuses to connect to whatever is not a public address, after
// the name was resolved, follows no redirect, and reads no more than it needs.
package webhookclient
