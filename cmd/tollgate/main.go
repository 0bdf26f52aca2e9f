// Command tollgate is what operators and finance use: it runs everything on one
// machine, migrates the database, and calls the API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/instant"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/version"
)

// commands is the command line.
type commands struct {
	Dev         devCommand         `cmd:"" help:"Run everything on this machine: Postgres, Temporal and its UI, worker, API, demo organizations."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database schema up to date, or look at it."`
	Org         orgCommand         `cmd:"" help:"Make, list and change organizations (admin)."`
	Keys        keysCommand        `cmd:"" help:"Make, list and revoke API keys (admin)."`
	Usage       usageCommand       `cmd:"" help:"Show an organization's usage and limits."`
	Flush       flushCommand       `cmd:"" help:"Flush one instance, or every live one, now (admin)."`
	Export      exportCommand      `cmd:"" help:"Start, watch and download exports (finance)."`
	Rate        rateCommand        `cmd:"" help:"Try a catalog: rate past usage under its prices, beside what was billed (finance)."`
	Proposal    proposalCommand    `cmd:"" help:"Show and decide on what takes a second person: credit and plans."`
	Quarantine  quarantineCommand  `cmd:"" help:"Show and decide on usage that was set aside because it is refused for good."`
	Credit      creditCommand      `cmd:"" help:"Grant, show and void prepaid credits."`
	Webhook     webhookCommand     `cmd:"" help:"Make, list and change endpoints that events are sent to."`
	Events      eventsCommand      `cmd:"" help:"Show what happened, the newest first."`
	Audit       auditCommand       `cmd:"" help:"Show, export and verify who changed what of administration, money, keys, plans and limits."`
	Reconcile   reconcileCommand   `cmd:"" help:"Compare what each layer says of the same usage: requests, journal, batches, records, rolled days, totals, quota."`
	Journal     journalCommand     `cmd:"" help:"Look at the journal of an API, without changing it."`
	CodecServer codecServerCommand `cmd:"" help:"Show Temporal's UI and command line what TOLLGATE_TEMPORAL_KEYS encrypts."`
	ComposeEnv  composeEnvCommand  `cmd:"" help:"Write the passwords that docker-compose.yml demands, random ones, to a file that isn't there yet."`
	Ready       readyCommand       `cmd:"" help:"Ask a process whether it is ready; exit status 1 if not."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

// output is where commands write, so that tests can read it.
type output struct {
	io.Writer
	// terminal is true where a person reads along.
	terminal bool
}

// Fd lets what shows progress see whether it writes to a terminal.
func (o *output) Fd() uintptr {
	if file, ok := o.Writer.(*os.File); ok {
		return file.Fd()
	}
	return ^uintptr(0)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], &output{Writer: os.Stdout, terminal: isTerminal(os.Stdout)}, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit status: 0, 1 for a failure,
// 2 for a wrong command line.
func run(ctx context.Context, args []string, out *output, stderr io.Writer) int {
	var cli commands
	parser, err := kong.New(&cli,
		kong.Name("tollgate"),
		kong.Description("Usage metering, plan enforcement and billing exports."),
		kong.UsageOnError(),
		config.SecretFiles(),
		typeMappers(),
		kong.Writers(out, stderr),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(out),
	)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "tollgate:", err)
		return 2
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "tollgate:", err)
		_, _ = fmt.Fprintln(stderr, "See `tollgate --help`.")
		return 2
	}
	if err := parsed.Run(); err != nil {
		_, _ = fmt.Fprintln(stderr, "tollgate:", err)
		return 1
	}
	return 0
}

// typeMappers read what is more than text.
func typeMappers() kong.Option {
	return kong.OptionFunc(func(k *kong.Kong) error {
		return errors.Join(
			kong.TypeMapper(reflect.TypeFor[time.Time](), kong.MapperFunc(decodeTime)).Apply(k),
			kong.TypeMapper(reflect.TypeFor[uuid.UUID](), kong.MapperFunc(decodeID)).Apply(k),
			kong.TypeMapper(reflect.TypeFor[*uuid.UUID](), kong.MapperFunc(decodeID)).Apply(k),
		)
	})
}

// decodeTime reads a time on the command line as the API reads one.
func decodeTime(c *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := c.Scan.PopValueInto("time", &text); err != nil {
		return err
	}
	at, err := instant.Parse(text)
	if err != nil {
		return err
	}
	target.Set(reflect.ValueOf(at))
	return nil
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(out *output) error {
	_, err := fmt.Fprintln(out, version.String())
	return err
}
