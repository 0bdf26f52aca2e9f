package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"golang.org/x/term"
)

// format lets a command answer a program as well as a person.
type format struct {
	JSON bool `name:"json" help:"Print JSON. It is also what is printed where the output is no terminal."`
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// print writes value as JSON for programs, and as a table with a header for people.
func (f format) print(out *output, value any, header string, rows func(row func(cells ...any))) error {
	if f.JSON || !out.terminal {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	}
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, header)
	rows(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				_, _ = fmt.Fprint(table, "\t")
			}
			_, _ = fmt.Fprint(table, cell)
		}
		_, _ = fmt.Fprintln(table)
	})
	return table.Flush()
}
