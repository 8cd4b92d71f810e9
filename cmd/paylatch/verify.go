package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

type verifyCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	JSON bool `name:"json" help:"Print the report as JSON."`
}

// Help is printed by verify --help.
func (c *verifyCommand) Help() string {
	return `Compares the topic with the database, also while the service runs. It takes a snapshot of the
payments and then reads the ends of the log. Every payment that is marked sent must be in the topic
once, where its mark says, with the content of its row.

    duplicates  records of a payment beyond its first
    missing     marked sent, and not in the topic (checked twice,
                5 s apart, beyond the end of the log)
    unexpected  records of no payment in the table
    differing   marked sent, and the record says something else
                than the row: one of them was changed
    hidden      marked sent, and hidden from consumers by a
                transaction that is open for 5 s or more
    unsent      still to be sent: no fault
    not judged  records that retention has deleted, and payments
                sent while verify runs: no fault

Exit codes: 0 no fault; 1 duplicates, missing, unexpected or differing, or verify could not be carried out;
2 wrong usage; 3 hidden payments, and no other fault.`
}

// errContradiction makes verify fail; the report has named the payments.
var errContradiction = errors.New("the topic and the database do not agree")

// hiddenError makes verify fail with an exit code of its own; the report has named the payments.
type hiddenError struct{}

func (hiddenError) Error() string {
	return "an open transaction in the topic hides payments that are marked sent"
}

// ExitCode implements cli.ExitCoder.
func (hiddenError) ExitCode() int { return 3 }

// Run compares the topic with the database, and returns nil if they agree.
func (c *verifyCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithClients(ctx, c.DatabaseSettings, c.KafkaSettings, func(s *store.Store, k *kafka.Cluster) error {
		report, err := showing(ctx, out, "verifying", func() (auditor.Report, error) {
			return auditor.Audit(ctx, s, k)
		})
		if err != nil {
			return err
		}
		if err := c.print(out.Stdout, report); err != nil {
			return err
		}
		switch {
		case report.Contradicts():
			return errContradiction
		case !report.OK():
			return hiddenError{}
		}
		return nil
	})
}

func (c *verifyCommand) print(w io.Writer, r auditor.Report) error {
	if c.JSON {
		return printJSON(w, r)
	}
	for _, line := range []struct {
		name  string
		n     int64
		means string
		ids   []string
	}{
		{"payments", r.Payments, "in the table", nil},
		{"records", r.Records, "in topic " + r.Topic + ", committed", nil},
		{"duplicates", r.Duplicates, "records of a payment beyond its first", r.Examples.Duplicates},
		{"missing", r.Missing, "payments marked sent, not in the topic", r.Examples.Missing},
		{"unexpected", r.Unexpected, "records of no payment in the table", r.Examples.Unexpected},
		{"differing", r.Differing, "payments whose record says something else than their row", r.Examples.Differing},
		{"hidden", r.Hidden, "payments marked sent, hidden by an open transaction", r.Examples.Hidden},
		{"unsent", r.Unsent, "payments still to be sent", nil},
		{"not judged", r.NotJudged.DeletedRecords, "payments whose records retention has deleted", nil},
		{"", r.NotJudged.InFlight, "records of payments sent while this ran", nil},
	} {
		means := strings.Join(append([]string{line.means}, line.ids...), "\n"+strings.Repeat(" ", 23))
		_, _ = fmt.Fprintf(w, "%10s %10d  %s\n", line.name, line.n, means)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

type storageCommand struct {
	app.DatabaseSettings
	JSON bool `name:"json" help:"Print the figures as JSON, in bytes."`
}

// Run prints what a payment takes.
func (c *storageCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		m, err := showing(ctx, out, "measuring", func() (store.Storage, error) { return s.Storage(ctx) })
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out.Stdout, m)
		}
		_, _ = fmt.Fprintf(out.Stdout, "%8s %14s %12s  of %d payments\n", "", "bytes", "per payment", m.Payments)
		for _, line := range []struct {
			name  string
			bytes int64
			means string
		}{
			{"row", m.RowBytes, "sum(pg_column_size(row) + 24), the budget's measure: at most 200"},
			{"heap", m.Heap, "on disk"},
			{"dead", m.Dead, "of the heap, until vacuum"},
			{"indexes", m.Indexes, ""},
			{"parties", m.Parties, "with indexes; shared by payments"},
			{"accounts", m.Accounts, "with indexes; shared by payments"},
			{"total", m.TotalDisk, "on disk"},
		} {
			each := float64(line.bytes) / float64(max(m.Payments, 1))
			_, _ = fmt.Fprintf(out.Stdout, "%8s %14d %12.1f  %s\n", line.name, line.bytes, each, line.means)
		}
		return nil
	})
}
