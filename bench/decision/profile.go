package main

import (
	"fmt"
	"os"
	"runtime/pprof"
	"slices"

	"github.com/riverline/tollgate/internal/benchline"
)

// profile measures one subject alone, and writes where the processor's time goes.
func (o options) profile(name string, how setting) error {
	at := slices.IndexFunc(subjects, func(s subject) bool { return s.name == name })
	if at < 0 {
		return fmt.Errorf("there is no subject %q", name)
	}
	use, end, err := subjects[at].make(identities(how.organizations), o.dir)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer end()
	file, err := os.Create("decision.pprof")
	if err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	defer func() { _ = file.Close() }()
	how.order = how.draw()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	for range o.rounds {
		one, err := how.once(use, o.operations)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := benchline.Write(os.Stdout, how.name()+"/subject="+name, o.operations, one); err != nil {
			return err
		}
	}
	return nil
}
