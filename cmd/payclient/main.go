// Command payclient is a client of Paylatch. It makes payments, shows what became of them, puts
// load on an installation and measures it, and audits what a load has done.
//
// The work is done by the packages client, internal/loadtest and internal/journal. Here are the
// flags, the output and the exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/buildinfo"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/progress"
)

// The exit codes are part of the interface: scripts decide by them whether to make a payment again.
const (
	exitOK = 0
	// exitFailed means refused, failed, or not sent in time.
	exitFailed = 1
	exitUsage  = 2
	// exitUnknown means that there may be a payment, or that an audit found only payments
	// that an open transaction hides.
	exitUnknown = 3
	// exitMissed means that only a latency objective was missed.
	exitMissed = 4
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default applies again: a second Ctrl-C ends the process.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without the process around it.
func run(
	ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer,
) int {
	var flags commandLine
	helped := false
	parser, err := kong.New(&flags,
		kong.Name("payclient"),
		kong.Description(description),
		longHelp,
		kong.Vars{"version": buildinfo.Read().String()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.Resolvers(variables(env)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoAppDescFormat: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return fail(stderr, err)
	}
	parsed, err := parser.Parse(args)
	if helped {
		// Parsing continues after the help was printed, and may report what is missing.
		return exitOK
	}
	if err != nil {
		return fail(stderr, &usageError{err})
	}
	retries := &retryPrinter{out: stderr}
	s := &session{
		ctx: client.WithObserver(ctx, retries.observe), args: args, flags: &flags, env: env,
		stdin: stdin, stdout: stdout, stderr: stderr, terminal: progress.Terminal(stderr),
	}
	if err := parsed.Run(s); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

// variables resolves the flags that name a variable, in the environment that run gets.
func variables(env func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, name := range flag.Envs {
			if value := env(name); value != "" {
				return value, nil
			}
		}
		return nil, nil
	})
}

// usageError is a fault of the command line or the environment: nothing was sent.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// errSomeUnknown is the error of a load with payments of unknown outcome. Its report lists the
// keys.
var errSomeUnknown = errors.New("the outcome of some payments is unknown")

// errMissed is the error of a load that only missed an objective.
var errMissed = errors.New("SLO missed")

func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "payclient: %v\n", err)
	_, isUsage := errors.AsType[*usageError](err)
	unknown, isUnknown := errors.AsType[*client.UnknownError](err)
	if isUnknown {
		fmt.Fprintf(stderr, "payclient: look it up: payclient get --idempotency-key=%s\n", shellWord(unknown.Key))
	}
	switch {
	case isUsage:
		fmt.Fprintln(stderr, `Run "payclient --help" for more information.`)
		return exitUsage
	case isUnknown || errors.Is(err, errSomeUnknown) || errors.Is(err, journal.ErrHidden):
		return exitUnknown
	case errors.Is(err, errMissed):
		return exitMissed
	default:
		return exitFailed
	}
}
