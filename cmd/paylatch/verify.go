package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

type verifyCommand struct {
	databaseSettings
	kafkaSettings
	JSON bool `name:"json" help:"Print the report as JSON."`
}

// errNotOK ends verify with a failure; the report has said why.
var errNotOK = errors.New("the topic and the database do not agree")

// Run holds the topic against the database. Exit code 0 says that there are no duplicates, none missing and no strangers.
func (c *verifyCommand) Run(ctx context.Context, out outlet) error {
	return withStoreAndCluster(ctx, c.databaseSettings, c.kafkaSettings, func(s *store.Store, cluster *kafka.Cluster) error {
		report, err := auditor.Audit(ctx, s, cluster)
		if err != nil {
			return err
		}
		if err := c.print(out.stdout, report); err != nil {
			return err
		}
		if !report.OK() {
			return errNotOK
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
		{"missing", r.Missing, "marked sent, not in the topic", r.Examples.Missing},
		{"strangers", r.Strangers, "in the topic, not in the table", r.Examples.Strangers},
		{"unsent", r.Unsent, "still to be sent", nil},
		{"not judged", r.NotJudged.DeletedRecords, "payments whose records retention has deleted", nil},
		{"", r.NotJudged.SentMeanwhile, "payments sent while this ran", nil},
		{"", r.NotJudged.InFlight, "records published and not yet marked", nil},
	} {
		_, _ = fmt.Fprintf(w, "%10s %10d  %s\n", line.name, line.n, strings.Join(append([]string{line.means}, line.ids...), "\n"+strings.Repeat(" ", 23)))
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

type storageCommand struct {
	databaseSettings
	JSON bool `name:"json" help:"Print the figures as JSON, in bytes."`
}

// Run tells what a payment takes.
func (c *storageCommand) Run(ctx context.Context, out outlet) error {
	return withStore(ctx, c.databaseSettings, func(s *store.Store) error {
		m, err := s.Storage(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out.stdout, m)
		}
		_, _ = fmt.Fprintf(out.stdout, "%8s %14s %12s  of %d payments\n", "", "bytes", "per payment", m.Payments)
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
			_, _ = fmt.Fprintf(out.stdout, "%8s %14d %12.1f  %s\n", line.name, line.bytes, float64(line.bytes)/float64(max(m.Payments, 1)), line.means)
		}
		return nil
	})
}
