package app

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/version"
)

// Process runs until its context ends.
type Process interface {
	Run(ctx context.Context) error
}

// Main reads the settings of a program from flags and environment, checks them, and
// runs it until SIGINT, SIGTERM or SIGHUP. A second signal ends it at once. Wrong settings
// exit with status 2, a failure with 1.
func Main(name, description string, settings any, process func() Process) {
	parser, err := kong.New(settings,
		kong.Name(name),
		kong.Description(description+"\n\nTemporal is found by its own environment: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, "+
			"TEMPORAL_TLS… and profiles (docs.temporal.io/develop/environment-configuration). "+
			"Each secret may be in a file instead, which the same variable with _FILE at its end names: TOLLGATE_DATABASE_URL_FILE. "+
			"Traces are exported where OTEL_EXPORTER_OTLP_ENDPOINT says."),
		config.SecretFiles(),
		kong.Vars{"version": version.String()},
		kong.Help(kong.DefaultHelpPrinter),
	)
	if err != nil {
		slog.Error("The settings can't be described", "error", err)
		os.Exit(2)
	}
	if _, err := parser.Parse(os.Args[1:]); err != nil {
		parser.Errorf("%s", err)
		parser.Printf("See `%s --help`.", name)
		os.Exit(2)
	}
	if checked, ok := settings.(interface{ Validate() error }); ok {
		if err := checked.Validate(); err != nil {
			parser.Errorf("%s", err)
			os.Exit(2)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	if err := process().Run(ctx); err != nil {
		slog.Error("Ended by a failure", "program", name, "error", err)
		os.Exit(1)
	}
}
