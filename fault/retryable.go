package fault

// Retryable is an error that knows whether the same call may succeed later. Stores and sinks return
// it; whoever calls them tries again, or leaves it.
type Retryable interface {
	error
	// Retryable reports whether the same call may succeed later.
	Retryable() bool
}
