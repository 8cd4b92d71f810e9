package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/paylatch/paylatch/internal/operatorlog"
)

// migrationLog collects the rows that migrations have written to the operator's log.
type migrationLog struct {
	rows []logged
	// last is the row of the last migration, whose commit is still to come.
	last logged
}

// schemaState describes the schema in the operator's log.
type schemaState struct {
	SchemaVersion int32 `json:"schema_version"`
}

// selectHasLog finds the operator's log. Migrations that run before the one that creates it, and
// the one that drops it, leave no row.
const selectHasLog = `select to_regclass('operator_log') is not null`

// logMigrations makes each migration write a row to the operator's log, in its own transaction.
func logMigrations(m *migrate.Migrator) *migrationLog {
	log := &migrationLog{}
	for _, one := range m.Migrations {
		up, down := one.UpSQL, one.DownSQL
		before, after := schemaState{one.Sequence - 1}, schemaState{one.Sequence}
		one.UpSQL, one.DownSQL = "", ""
		one.UpFunc = log.run(one.Name, up, Change{Action: "migrate up", Before: before, After: after})
		if down != "" {
			one.DownFunc = log.run(one.Name, down, Change{Action: "migrate down", Before: after, After: before})
		}
	}
	return log
}

// run returns a migration that executes sql and writes a row. Tern executes it in a transaction,
// which then only changes the version and commits.
func (l *migrationLog) run(name, sql string, c Change) migrate.MigrationFunc {
	return func(ctx context.Context, conn *pgx.Conn) (err error) {
		l.rows, l.last = append(l.rows, l.last), logged{} // It was committed: tern begins the next one.
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var has bool
		if err := conn.QueryRow(ctx, selectHasLog).Scan(&has); err != nil || !has {
			return err
		}
		l.last, err = appendLog(ctx, conn, c, operatorlog.Done, 0, "")
		return err
	}
}

// announce reports to the command in ctx which rows are on record: that of the last migration only
// if it did not fail.
func (l *migrationLog) announce(ctx context.Context, failed error) {
	if failed == nil {
		l.rows = append(l.rows, l.last)
	}
	for _, row := range l.rows {
		row.announce(ctx)
	}
}
