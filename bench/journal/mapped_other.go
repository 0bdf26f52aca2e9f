//go:build !linux

package main

import "errors"

// openMapped is Linux's alone: elsewhere the journal maps nothing.
func openMapped(int, layout) func(string) (log, error) {
	return func(string) (log, error) { return nil, errors.ErrUnsupported }
}
