package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/operatorlog"
	"github.com/paylatch/paylatch/internal/store"
)

type operatorLogCommand struct {
	List   operatorLogListCommand   `cmd:"" help:"Print who has changed what: the last rows of the operator's log."`
	Verify operatorLogVerifyCommand `cmd:"" help:"Check that no row of the operator's log was changed, removed, swapped, inserted or cut off."`
}

// logRecorded returns what logs each row of the operator's log once it is on record, with the new
// head. Standard output belongs to the results of commands.
func logRecorded(stderr io.Writer) func(action string, head operatorlog.Head) {
	logger := app.NewLogger(stderr, app.LogLevel(slog.LevelInfo))
	return func(action string, head operatorlog.Head) {
		logger.Info("recorded in the operator's log", "action", action, "row", head.Seq, "head", head.String())
	}
}

type operatorLogListCommand struct {
	app.DatabaseSettings
	Limit  int   `default:"50" help:"How many rows, at most 10000."`
	Before int64 `placeholder:"ROW" help:"Print the rows before this one; by default the last rows."`
	JSON   bool  `name:"json" help:"Print each row as JSON, with its hash, one in a line."`
}

// Faults implements cli.Checker.
func (c *operatorLogListCommand) Faults() (faults []string) {
	if c.Limit < 1 || c.Limit > store.OperatorLogMax {
		faults = append(faults, fmt.Sprintf("--limit: must be 1 to %d", store.OperatorLogMax))
	}
	if c.Before < 0 {
		faults = append(faults, "--before: must be the number of a row")
	}
	return faults
}

// Run prints rows.
func (c *operatorLogListCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		rows, err := s.OperatorLog(ctx, c.Before, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			return printLines(out.Stdout, rows)
		}
		w := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "ROW\tTIME\tROLE\tFROM\tBY\tCOMMAND\tACTION\tOUTCOME\tARGUMENTS\tBEFORE\tAFTER")
		for _, r := range rows {
			_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s@%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Seq, r.At.Format(time.DateTime),
				printable(r.Role), from(r.ClientAddress), printable(r.OSUser), printable(r.Host), printable(r.Command),
				printable(r.Action), outcomeOf(r), printable(r.Arguments), printable(r.Before), printable(r.After))
		}
		return w.Flush()
	})
}

// printable returns a text as it is, or quoted if it has characters that a terminal would not show:
// programs report who runs them, and a row must not look like two.
func printable[T ~string | ~[]byte](text T) string {
	s := string(text)
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// printLines prints the rows as JSON, without changing the text that is hashed.
func printLines(w io.Writer, rows []store.LoggedEntry) error {
	encoder := json.NewEncoder(w)
	for _, r := range rows {
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// from returns where a command came from, as PostgreSQL saw it.
func from(address string) string {
	if address == "" {
		return "socket"
	}
	return address
}

// outcomeOf says what is known of how the action of a row went.
func outcomeOf(r store.LoggedEntry) string {
	switch {
	case r.Phase == operatorlog.Done:
		return "done"
	case r.Open:
		return "unknown: begun, not ended"
	case r.Phase == operatorlog.Begun:
		return "begun"
	case r.Result == operatorlog.Unknown:
		return fmt.Sprintf("unknown, begun by row %d", r.Begun)
	}
	return fmt.Sprintf("%s, begun by row %d", r.Result, r.Begun)
}

type operatorLogVerifyCommand struct {
	app.DatabaseSettings
	Head operatorlog.Head `placeholder:"ROW:HASH" help:"A head that you have kept, as a command has logged it. Only with it rows are noticed that were cut off with the head of the log, and a log that was written again."`
	JSON bool             `name:"json" help:"Print the report as JSON."`
}

// Help is printed by operator-log verify --help.
func (c *operatorLogVerifyCommand) Help() string {
	return `Computes the hash of each row, and compares it with the row that follows and with the head of the log.

    intact      each row continues the one before it
    tampered    a row was changed, removed, swapped or inserted, or rows are cut off; the first such row is named
    other_copy  the rows continue each other, but the log is not the one that --head was in: an older copy was
                restored

Exit codes: 0 intact; 1 tampered, or verify could not be carried out; 2 wrong usage; 3 other_copy.`
}

// errTampered makes operator-log verify fail; the report has named the row.
var errTampered = errors.New("the operator's log was tampered with")

// otherCopyError makes operator-log verify fail with an exit code of its own.
type otherCopyError struct{}

func (otherCopyError) Error() string { return "the operator's log is not the one that the head is of" }

// ExitCode implements cli.ExitCoder.
func (otherCopyError) ExitCode() int { return 3 }

// Run verifies the log, and returns nil if it is intact.
func (c *operatorLogVerifyCommand) Run(ctx context.Context, out cli.Output) error {
	var kept *operatorlog.Head
	if c.Head.Seq > 0 {
		kept = &c.Head
	}
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		report, err := showing(ctx, out, "verifying the operator's log", func() (operatorlog.Report, error) {
			return s.VerifyOperatorLog(ctx, kept, nil)
		})
		if err != nil {
			return err
		}
		if err := c.print(out.Stdout, report); err != nil {
			return err
		}
		switch report.Verdict {
		case operatorlog.Tampered:
			return errTampered
		case operatorlog.OtherCopy:
			return otherCopyError{}
		case operatorlog.Intact:
		}
		return nil
	})
}

func (c *operatorLogVerifyCommand) print(w io.Writer, r operatorlog.Report) error {
	if c.JSON {
		return printJSON(w, r)
	}
	head := "none"
	if r.Head.Seq > 0 {
		head = r.Head.String()
	}
	moves := make([]string, len(r.Moves))
	for i, m := range r.Moves {
		moves[i] = m.String()
	}
	if more := r.MovesTotal - len(moves); more > 0 {
		moves = append(moves, fmt.Sprintf("and %d more", more))
	}
	lines := [][2]string{
		{"verdict", string(r.Verdict)},
		{"rows", fmt.Sprintf("%d good ones, from the first on", r.Rows)},
		{"head", head},
		{"fault", r.Fault},
		{"unknown", fmt.Sprintf("%d operations begun and not ended", r.Unended)},
		{"moved", strings.Join(moves, "\n         ")},
	}
	for _, l := range lines {
		if l[1] != "" {
			_, _ = fmt.Fprintf(w, "%7s  %s\n", l[0], l[1])
		}
	}
	return nil
}
