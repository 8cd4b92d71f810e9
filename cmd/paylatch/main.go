// Command paylatch takes payments over HTTP, stores them in PostgreSQL, and emits them to Kafka. It
// also has the operators' commands.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/operatorlog"
)

// gcPercent lets the heap grow to five times what is live before it is collected. Some tens of
// megabytes are live, and with Go's default a busy API spends a tenth of its time on collecting
// them again and again. GOGC in the environment overrides it.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), app.StopSignals...)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commandLine has one command for each thing that is done with an installation.
type commandLine struct {
	VersionFlag kong.VersionFlag `name:"version" help:"Print the version and exit."`

	Serve       serveCommand       `cmd:"" help:"Run the API and a sender."`
	API         apiCommand         `cmd:"" name:"api" help:"Run the API alone."`
	Sender      senderCommand      `cmd:"" help:"Run a sender alone."`
	Setup       setupCommand       `cmd:"" help:"Create the schema, the topic and, if you name one, a tenant; print what exists already."`
	Migrate     migrateCommand     `cmd:"" help:"Migrate the schema of the database."`
	Tenants     tenantsCommand     `cmd:"" help:"Manage tenants and their API keys."`
	Partitions  partitionsCommand  `cmd:"" help:"Manage the partitions of the topic."`
	OperatorLog operatorLogCommand `cmd:"" name:"operator-log" help:"Print and verify the operator's log: who has changed what."`
	Roles       rolesCommand       `cmd:"" help:"Print the database roles as SQL, and the rights in Kafka as commands of kafka-acls.sh."`
	Verify      verifyCommand      `cmd:"" help:"Compare the topic with the database: duplicates, missing, unexpected, differing, hidden. Safe while the service runs."`
	Doctor      doctorCommand      `cmd:"" help:"Examine the database and the brokers: is there what the guarantees depend on?"`
	Storage     storageCommand     `cmd:"" help:"Print how much disk space a payment takes in the database."`
	Probe       probeCommand       `cmd:"" help:"Check the process on this machine; for health checks of containers."`
	Version     cli.VersionCommand `cmd:"" help:"Print the version, the commit and the version of Go."`
}

// vars returns what the texts of flags refer to.
func vars() kong.Vars {
	return kong.Vars{
		"tenantInFlight": strconv.Itoa(api.TenantInFlightDefault),
		"connections":    strconv.Itoa(api.ConnectionsMaxDefault),
	}
}

// run is main without the process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	program := cli.Program{
		Name: "paylatch",
		Description: "Payments taken over HTTP, stored in PostgreSQL, emitted to Kafka.\n\n" +
			"Every flag can be set by the environment variable named next to it.",
		Vars:    vars(),
		Environ: os.Environ(), Stdout: stdout, Stderr: stderr,
		Context: func(ctx context.Context, command string) context.Context {
			return operatorlog.NewContext(ctx, operatorlog.Command{
				Operator: operatorlog.ThisProcess(command), Recorded: logRecorded(stderr),
			})
		},
	}
	return program.Run(ctx, &commandLine{}, args)
}
