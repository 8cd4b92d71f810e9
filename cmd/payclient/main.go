// Command payclient is a standalone client of Paylatch. It simulates requests and shows where the payments go, puts
// load on an installation and measures it, makes single payments, and asks what became of them. All that it does goes
// through internal/payclient; here are only flags, output and exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
)

// The exit codes are part of the interface: scripts tell by them whether a payment may be made again.
const (
	exitOK      = 0
	exitFailed  = 1 // refused, failed, or not seen sent
	exitUsage   = 2
	exitUnknown = 3 // a payment may or may not have been taken, or an audit is undecided
	exitMissed  = 4 // all went well but for a latency that exceeded its limit
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default holds again: a second Ctrl-C ends what does not end by itself.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	var flags commandLine
	helped := false
	parser, err := kong.New(&flags,
		kong.Name("payclient"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoAppDescFormat: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return fail(stderr, err)
	}
	parsed, err := parser.Parse(args)
	if helped {
		// Parsing goes on after the help has been printed, and may complain about what was not given.
		return exitOK
	}
	if err != nil {
		return fail(stderr, &usageError{err})
	}
	s := &session{ctx: ctx, flags: &flags, env: env, stdin: stdin, stdout: stdout, stderr: stderr}
	if err := parsed.Run(s); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

// usageError is a fault of the command line or the environment: nothing was sent.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// errSomeUnknown ends a load that could not learn the outcome of all its payments; its report lists the keys.
var errSomeUnknown = errors.New("the outcome of some payments is unknown")

// errMissed ends a load that was well but slow.
var errMissed = errors.New("SLO missed")

func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "payclient: %v\n", err)
	_, usage := errors.AsType[*usageError](err)
	lost, unknown := errors.AsType[*client.UnknownError](err)
	if unknown {
		fmt.Fprintf(stderr, "payclient: look it up: payclient get --idempotency-key=%s\n", shellWord(lost.Key))
	}
	switch {
	case usage:
		fmt.Fprintln(stderr, `Run "payclient --help" for more information.`)
		return exitUsage
	case unknown || errors.Is(err, errSomeUnknown) || errors.Is(err, journal.ErrUndecided):
		return exitUnknown
	case errors.Is(err, errMissed):
		return exitMissed
	default:
		return exitFailed
	}
}

// shellWord quotes a key for a shell: it may hold any visible character.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_.:/@", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
