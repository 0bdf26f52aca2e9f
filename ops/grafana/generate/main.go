// Command generate writes the dashboards into the folder dashboards, from the folder above it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/riverline/tollgate/ops/grafana"
)

func main() {
	for _, d := range grafana.Dashboards() {
		text, err := d.JSON()
		if err == nil {
			err = os.WriteFile(filepath.Join("dashboards", d.File()), text, 0o644) //nolint:gosec // Grafana reads it as another user.
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
}
