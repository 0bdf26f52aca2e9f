//go:build race

package e2e_test

// raceDetector says that the tests run under the race detector; the programs that serve then
// do, too, unless a test wants plain ones.
const raceDetector = true
