// Command paylatch-dev is the demo: PostgreSQL, a Kafka broker, the API and senders on one machine,
// in one process. Nothing in it is for production.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/embedded"
)

func main() {
	embedded.Main() // In the process that owns PostgreSQL, this never returns.
	ctx, stop := signal.NotifyContext(context.Background(), app.StopSignals...)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type commandLine struct {
	VersionFlag kong.VersionFlag `name:"version" help:"Print the version and exit."`

	Run     runCommand         `cmd:"" help:"Run the demo until Ctrl-C."`
	Env     envCommand         `cmd:"" help:"Print export lines for a shell, with which the commands of paylatch and payclient reach the running demo."`
	Version cli.VersionCommand `cmd:"" help:"Print the version, the commit and the version of Go."`
}

// run is main without the process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	program := cli.Program{
		Name:        "paylatch-dev",
		Description: "The demo of Paylatch: PostgreSQL, a Kafka broker, the API and senders on this machine.",
		Environ:     os.Environ(), Stdout: stdout, Stderr: stderr,
	}
	return program.Run(ctx, &commandLine{}, args)
}
