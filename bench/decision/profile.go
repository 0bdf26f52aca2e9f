package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/google/uuid"
)

// profile measures one subject alone, and writes where the processor's time goes.
func profile(name, dir string, how setting, rounds, operations int) error {
	for _, s := range subjects {
		if s.name != name {
			continue
		}
		ids := make([]uuid.UUID, how.organizations)
		for i := range ids {
			ids[i] = uuid.New()
		}
		use, end, err := s.make(ids, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer end()
		file, err := os.Create("decision.pprof")
		if err != nil {
			return fmt.Errorf("write a profile: %w", err)
		}
		defer func() { _ = file.Close() }()
		order := how.draw()
		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("write a profile: %w", err)
		}
		defer pprof.StopCPUProfile()
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(how.cores))
		for range rounds {
			one, err := how.once(use, order, operations)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Printf("%.0f ns, %.0f ns of CPU, %.2f allocations\n", one.wall, one.cpu, one.allocations)
		}
		return nil
	}
	return fmt.Errorf("there is no subject %q", name)
}
