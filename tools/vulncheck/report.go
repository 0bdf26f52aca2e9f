package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// standardLibrary is what govulncheck calls the module of the standard library.
const standardLibrary = "stdlib"

// reach says how near the vulnerable code is. The greatest of a finding's counts.
type reach int

const (
	required reach = iota // the module is in the build list
	imported              // a vulnerable package is built
	called                // a vulnerable function can be called
)

func (r reach) String() string {
	return [...]string{"not imported", "imported, not called", "called"}[r]
}

// vulnerability is one entry of the database in one module.
type vulnerability struct {
	ID, Module, Version string
	// Fixed is the first version without it; empty: there is none.
	Fixed   string
	Summary string
	Reach   reach
	// Trace is one way by which it is called, outermost first.
	Trace []string
}

// fails reports whether it has to be mended now.
func (v *vulnerability) fails() bool { return v.Reach == called && v.Module != standardLibrary }

// message is one of govulncheck's: https://pkg.go.dev/golang.org/x/vuln/internal/govulncheck#Message.
type message struct {
	// Config is in the first message.
	Config *struct{} `json:"config"`
	OSV    *struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"osv"`
	Finding *struct {
		OSV   string  `json:"osv"`
		Fixed string  `json:"fixed_version"`
		Trace []frame `json:"trace"`
	} `json:"finding"`
}

// frame is a place in a finding's trace, the vulnerable one first.
type frame struct {
	Module, Version, Package, Function, Receiver string
}

func (f frame) reach() reach {
	switch {
	case f.Function != "":
		return called
	case f.Package != "":
		return imported
	default:
		return required
	}
}

func (f frame) String() string {
	if f.Receiver != "" {
		return f.Package + "." + strings.TrimPrefix(f.Receiver, "*") + "." + f.Function
	}
	return f.Package + "." + f.Function
}

// read reads govulncheck's messages, and returns what it found: what is called first, then by module.
func read(messages io.Reader) ([]*vulnerability, error) {
	begun := false
	summaries, found := map[string]string{}, map[[2]string]*vulnerability{}
	for decoder := json.NewDecoder(messages); ; {
		var m message
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		begun = begun || m.Config != nil
		if m.OSV != nil {
			summaries[m.OSV.ID] = m.OSV.Summary
		}
		if m.Finding == nil || len(m.Finding.Trace) == 0 {
			continue
		}
		at := m.Finding.Trace[0]
		key := [2]string{m.Finding.OSV, at.Module}
		v := found[key]
		if v == nil {
			v = &vulnerability{ID: m.Finding.OSV, Module: at.Module, Version: at.Version, Fixed: m.Finding.Fixed}
			found[key] = v
		}
		if at.reach() > v.Reach {
			v.Reach, v.Trace = at.reach(), nil
			for _, f := range slices.Backward(m.Finding.Trace) {
				v.Trace = append(v.Trace, f.String())
			}
		}
	}
	if !begun {
		return nil, errors.New("it says nothing")
	}
	all := slices.SortedFunc(maps.Values(found), func(a, b *vulnerability) int {
		if a.Reach != b.Reach {
			return int(b.Reach - a.Reach)
		}
		return strings.Compare(a.Module+" "+a.ID, b.Module+" "+b.ID)
	})
	for _, v := range all {
		v.Summary = summaries[v.ID]
	}
	return all, nil
}

// report writes what was found. It fails if some of it has to be mended now.
func report(w io.Writer, found []*vulnerability) error {
	var failed []error
	for _, v := range found {
		mends := "no version mends it"
		if v.Fixed != "" {
			mends = v.Fixed + " mends it"
		}
		line := fmt.Sprintf("%s %s in %s@%s (%s): %s", v.ID, v.Reach, v.Module, v.Version, mends, strings.TrimSpace(v.Summary))
		if v.fails() {
			failed = append(failed, errors.New(line+"\n  by "+strings.Join(v.Trace, "\n  → ")))
			continue
		}
		_, _ = fmt.Fprintln(w, line)
	}
	return errors.Join(failed...)
}
