// Command worker runs Tollgate's workflows and their shared activities.
package main

import (
	"github.com/riverline/tollgate/cmd/internal/app"
)

func main() {
	var config struct {
		app.WorkerConfig
	}
	app.Main("worker", "Runs Tollgate's workflows: flush loops, rollups and exports.", &config, func() app.Process {
		config.Logger()
		return app.NewWorker(config.WorkerConfig)
	})
}
