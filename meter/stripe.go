package meter

import "unsafe"

// stripeHere is which of some stripes, a power of two, the caller takes: goroutines that run at one time
// mostly take different ones, so that no two processors write one cache line. It goes by the caller's stack,
// and one that has been taken must be remembered until it is given back.
func stripeHere(stripes uint64) uint64 {
	const golden = 0x9E3779B97F4A7C15
	var here byte
	// Stacks are far apart; two frames of one stack may differ, which does no harm.
	return uint64(uintptr(unsafe.Pointer(&here))>>11) * golden >> 32 & (stripes - 1) //nolint:gosec // an address as a number
}
