// Command api serves Tollgate's HTTP API: it meters, enforces, and flushes what it
// has counted.
package main

import (
	"github.com/riverline/tollgate/cmd/internal/app"
)

func main() {
	var config struct {
		app.APIConfig
	}
	app.Main("api", "Serves Tollgate's HTTP API.", &config, func() app.Process {
		config.Logger()
		return app.NewAPI(config.APIConfig)
	})
}
