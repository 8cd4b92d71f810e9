// Command paylatch takes payments over HTTP, stores them in PostgreSQL, and emits them to Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/embedded"
)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage     // Flags, environment or configuration.
	exitUndecided // Verify alone: an open transaction hides payments, and there is no other fault.
)

// gcPercent lets the heap grow to five times what is live before it is collected. What is live are some tens of megabytes, and with Go's default a busy API spends a tenth of
// its time on collecting them over and over. GOGC in the environment overrules it.
const gcPercent = 400

func main() {
	embedded.Main() // In the process that owns an embedded PostgreSQL, this never returns.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals...)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// cli is the command line: one command for each thing that is done with an installation.
type cli struct {
	Version kong.VersionFlag `help:"Tell the version and quit."`

	Dev        devCommand        `cmd:"" help:"Everything on this machine, for trying it out: PostgreSQL, a Kafka broker, the API and senders."`
	Serve      serveCommand      `cmd:"" help:"The API and a sender, against given PostgreSQL and Kafka."`
	API        apiCommand        `cmd:"" name:"api" help:"The API alone."`
	Sender     senderCommand     `cmd:"" help:"A sender alone."`
	Setup      setupCommand      `cmd:"" help:"Set an installation up, or find it set up: schema, topic, and a tenant if you name one."`
	Migrate    migrateCommand    `cmd:"" help:"The database's schema."`
	Tenants    tenantsCommand    `cmd:"" help:"Tenants and their API keys."`
	Partitions partitionsCommand `cmd:"" help:"The topic's partitions, and how far each is emitted."`
	Verify     verifyCommand     `cmd:"" help:"Compare the topic with the database: duplicates, missing, unexpected, undecided. Also while the service runs."`
	Storage    storageCommand    `cmd:"" help:"Tell what a payment takes in the database."`
	Probe      probeCommand      `cmd:"" help:"Ask the API on this machine whether it is ready; for health checks of containers."`
}

// version is what the Go tool knows of this build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}

// outlet is where a command writes: results on stdout, logs and complaints on stderr.
type outlet struct{ stdout, stderr io.Writer }

// run is main without the process: tests call it, too. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("paylatch"),
		kong.Description("Payments intake: taken over HTTP, stored in PostgreSQL, emitted to Kafka.\n\nEvery flag can be set by the environment variable named beside it."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }), kong.UsageOnError(),
		kong.Vars{"version": version(), "tenantInFlight": strconv.Itoa(api.TenantInFlightDefault)},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "paylatch:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "paylatch: %v\nSee paylatch --help.\n", err)
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(outlet{stdout, stderr})
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintln(stderr, "paylatch:", err)
	if _, ok := errors.AsType[*configError](err); ok {
		return exitUsage
	}
	if errors.Is(err, errUndecided) {
		return exitUndecided
	}
	return exitFailed
}
