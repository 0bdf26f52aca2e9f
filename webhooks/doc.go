// Package webhooks is the pure part of telling others about events: endpoints, their
// secrets, when a delivery is tried again, and how it ends. It follows Standard Webhooks
// (https://www.standardwebhooks.com).
package webhooks
