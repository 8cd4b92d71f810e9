// Package cli runs the command lines of paylatch and paylatch-dev.
//
// A setting is a flag whose type has an UnmarshalText method. Package cli checks all settings of
// the chosen command and reports all faults together; kong alone stops at the first one. Settings
// of other commands are not checked.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/internal/buildinfo"
)

// Exit codes. A command may have others: see ExitCoder.
const (
	exitOK = iota
	exitFailed
	exitUsage // Flags, environment or configuration.
)

// Program is a program with a command line.
type Program struct {
	Name        string
	Description string
	Vars        kong.Vars
	// Environ holds the environment as os.Environ returns it. Only unknown variables are looked for
	// in it: kong reads the settings itself.
	Environ []string
	Stdout  io.Writer
	Stderr  io.Writer
	// Context, if not nil, returns the context of a command, which is named without its arguments.
	Context func(ctx context.Context, command string) context.Context
}

// Output is where a command writes: results to Stdout, logs and warnings to Stderr.
type Output struct {
	Stdout io.Writer
	Stderr io.Writer
	// Unknown holds environment variables that look like settings and are none.
	Unknown []UnknownVariable
	// Warnings are about settings that work and endanger a secret.
	Warnings []string
}

// Logger is a command that logs. It logs the unknown variables and the warnings itself; for other
// commands Run prints them.
type Logger interface{ LogsUnknown() }

// Checker is a command, or a group of settings that is embedded in one, with faults beyond those of
// single settings.
type Checker interface{ Faults() []string }

// ExitCoder is an error with an exit code of its own.
type ExitCoder interface{ ExitCode() int }

// ConfigError holds all faults of a configuration. A program that ends with it exits with 2.
type ConfigError struct{ Faults []string }

// Error lists the faults, one in a line.
func (e *ConfigError) Error() string {
	return "the configuration is wrong:\n  " + strings.Join(e.Faults, "\n  ")
}

// VersionCommand prints which build this is.
type VersionCommand struct{}

// Run prints the version, the commit and the version of Go.
func (VersionCommand) Run(out Output) error {
	_, err := fmt.Fprintln(out.Stdout, buildinfo.Read())
	return err
}

// Run parses args into grammar, a pointer to a struct with kong's tags, and runs the command that
// they name. It returns the exit code. Tests call it, too.
func (p Program) Run(ctx context.Context, grammar any, args []string) (code int) {
	exited := -1
	settings := settings{}
	vars := kong.Vars{"version": buildinfo.Read().String()}
	parser, err := kong.New(grammar,
		kong.Name(p.Name), kong.Description(p.Description), kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { exited = code }), kong.UsageOnError(), vars, p.Vars,
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.PostBuild(settings.attach),
	)
	if err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "%s: %v\n", p.Name, err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help or --version.
		return exited
	}
	if err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "%s: %v\nSee %s --help.\n", p.Name, err, p.Name)
		return exitUsage
	}
	return p.exit(p.runCommand(ctx, parser, parsed, settings))
}

func (p Program) runCommand(ctx context.Context, parser *kong.Kong, parsed *kong.Context, s settings) error {
	command := selected(parsed)
	faults := append(s.check(parsed.Flags()), faultsOf(command)...)
	if len(faults) > 0 {
		return &ConfigError{faults}
	}
	unknown := unknownVariables(p.Environ, variables(parser.Model.Node))
	out := Output{Stdout: p.Stdout, Stderr: p.Stderr, Unknown: unknown, Warnings: s.warnings(parsed.Flags())}
	if _, ok := command.(Logger); !ok {
		for _, u := range out.Unknown {
			_, _ = fmt.Fprintf(p.Stderr, "%s: warning: %s\n", p.Name, u)
		}
		for _, w := range out.Warnings {
			_, _ = fmt.Fprintf(p.Stderr, "%s: warning: %s\n", p.Name, w)
		}
	}
	if p.Context != nil {
		ctx = p.Context(ctx, commandName(parsed))
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(out)
}

// commandName returns the words of the command that was named, without its arguments.
func commandName(parsed *kong.Context) string {
	name, _, _ := strings.Cut(parsed.Command(), " <")
	name, _, _ = strings.Cut(name, " [")
	return name
}

// selected returns the command that was named, as a pointer to its struct.
func selected(parsed *kong.Context) any {
	node := parsed.Selected()
	if node == nil || !node.Target.CanAddr() {
		return nil
	}
	return node.Target.Addr().Interface()
}

// exit prints an error and returns its exit code.
func (p Program) exit(err error) int {
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(p.Stderr, "%s: %v\n", p.Name, err)
	if _, ok := errors.AsType[*ConfigError](err); ok {
		return exitUsage
	}
	var coded ExitCoder
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitFailed
}
