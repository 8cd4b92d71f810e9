package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"
)

// versionTable is where tern keeps the version of the schema, in the schema of the installation.
const versionTable = "schema_version"

// Schema is the version that a database has, and the version that this program needs.
type Schema struct{ Current, Latest int32 }

// MigrateUp migrates the schema to the latest version. Concurrent calls are safe: tern holds an
// advisory lock, and later calls find nothing to do. Each migration is one transaction, so a crash
// leaves the schema at a whole version.
func MigrateUp(ctx context.Context, url string, migrations fs.FS, options ...Option) (Schema, error) {
	return withMigrator(ctx, url, migrations, options, func(m *migrate.Migrator, s *Schema) error {
		if s.Current > s.Latest { // See newerSchema.
			return nil
		}
		s.Current = s.Latest
		return m.Migrate(ctx)
	})
}

// MigrateDown migrates the schema down by one version. It deletes all data that the version holds.
func MigrateDown(ctx context.Context, url string, migrations fs.FS, options ...Option) (Schema, error) {
	return withMigrator(ctx, url, migrations, options, func(m *migrate.Migrator, s *Schema) error {
		if s.Current > s.Latest {
			return fmt.Errorf("version %d was made by a newer paylatch, which alone can take it back", s.Current)
		}
		if s.Current == 0 {
			return nil
		}
		s.Current--
		return m.MigrateTo(ctx, s.Current)
	})
}

// MigrationStatus returns the version of the schema.
func MigrationStatus(ctx context.Context, url string, migrations fs.FS, options ...Option) (Schema, error) {
	return withMigrator(ctx, url, migrations, options, func(*migrate.Migrator, *Schema) error { return nil })
}

// migrationSettings let a migration take its time. lock_timeout bounds how long a migration that
// waits for a table delays all statements that come after it.
var migrationSettings = map[string]string{
	"application_name": "paylatch migrate", "lock_timeout": "30s", "idle_in_transaction_session_timeout": "0",
}

func withMigrator(
	ctx context.Context, url string, migrations fs.FS, options []Option, work func(*migrate.Migrator, *Schema) error,
) (Schema, error) {
	conn, schema, err := connectToMigrate(ctx, url, optionsOf(options))
	if err != nil {
		return Schema{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	s, err := migrateOn(ctx, conn, schema, migrations, work)
	if isDenied(err) {
		err = fmt.Errorf("the database role %s lacks a privilege: it must own schema %s, or have CREATE on it and own "+
			"what is in it: %w", conn.Config().User, schema, err)
	}
	return s, err
}

// migrateOn is withMigrator on a connection.
func migrateOn(
	ctx context.Context, conn *pgx.Conn, schema string, migrations fs.FS, work func(*migrate.Migrator, *Schema) error,
) (Schema, error) {
	if err := prepareVersionTable(ctx, conn, schema); err != nil {
		return Schema{}, err
	}
	m, err := migrate.NewMigrator(ctx, conn, pgx.Identifier{schema, versionTable}.Sanitize())
	if err != nil {
		return Schema{}, fmt.Errorf("migrations: %w", err)
	}
	if err := m.LoadMigrations(migrations); err != nil {
		return Schema{}, fmt.Errorf("migrations: %w", err)
	}
	s := Schema{Latest: int32(len(m.Migrations))}
	s.Current, err = m.GetCurrentVersion(ctx)
	if err != nil {
		return s, fmt.Errorf("migrations: %w", err)
	}
	if err := newerSchema(s); err != nil {
		return s, err
	}
	log := logMigrations(m)
	err = work(m, &s)
	log.announce(ctx, err)
	if err != nil {
		return s, fmt.Errorf("migrations: %w", err)
	}
	return s, nil
}

// newerSchema returns an error for a schema that is more than one version ahead. On the next
// version this program runs and has nothing to migrate, so that an update can be rolled back.
func newerSchema(s Schema) error {
	if s.Current <= s.Latest+1 {
		return nil
	}
	return fmt.Errorf("the database's schema is version %d, newer than this program's %d: use a newer paylatch",
		s.Current, s.Latest)
}

// connectToMigrate opens a connection with connectionSettings and migrationSettings. It returns the
// schema of the installation.
func connectToMigrate(ctx context.Context, url string, o options) (*pgx.Conn, string, error) {
	access, err := newAccess(url, o.access, o.logger)
	if err != nil {
		return nil, "", fmt.Errorf("database URL: %w", err)
	}
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, "", fmt.Errorf("database URL: %w", err)
	}
	config := pool.ConnConfig
	schema, err := applySettings(config.RuntimeParams)
	if err != nil {
		return nil, "", err
	}
	maps.Copy(config.RuntimeParams, migrationSettings)
	prepareConfig(config, access)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, "", translate(err)
	}
	i, err := identify(ctx, conn)
	if err == nil {
		err = i.check(conn)
	}
	if err != nil {
		closeConn(conn)
		return nil, "", err
	}
	return conn, schema, nil
}

const (
	lockMigrate   = `select pg_advisory_lock($1, 0)`
	unlockMigrate = `select pg_advisory_unlock($1, 0)`
	// selectOtherInstallation finds another installation in the database. Advisory locks belong to
	// the database, so two installations would disturb each other.
	selectOtherInstallation = `select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relname = 'topic_partitions' and c.relkind in ('r', 'p') and n.nspname <> $1 limit 1`
	selectHasSchema = `select exists (select from pg_namespace where nspname = $1)`
	// selectHasVersionTable and the following statements add a key to tern's own table. In a
	// database with a publication for all tables, a table without a key cannot be updated.
	selectHasVersionTable = `select to_regclass($1) is not null`
	selectHasVersionKey   = `select exists (select from pg_index where indrelid = $1::regclass and indisprimary)`
	createVersionTable    = `create table %s (version integer not null,
		constraint schema_version_is_unique primary key (version))`
	addVersionKey = `alter table %s add constraint schema_version_is_unique primary key (version)`
)

// prepareVersionTable creates the schema and the version table if they are absent, and adds the key
// to an older version table. It refuses a second installation in the database.
func prepareVersionTable(ctx context.Context, conn *pgx.Conn, schema string) error {
	if _, err := conn.Exec(ctx, lockMigrate, lockClassMigrate); err != nil {
		// Of two concurrent callers one creates.
		return translate(err)
	}
	defer func() { _, _ = conn.Exec(ctx, unlockMigrate, lockClassMigrate) }()
	var other string
	err := conn.QueryRow(ctx, selectOtherInstallation, schema).Scan(&other)
	if err == nil {
		return refuseDatabase("it holds an installation in schema %q: one database holds one installation "+
			"(another schema is named by search_path in the URL)", other)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return translate(err)
	}
	table := pgx.Identifier{schema, versionTable}.Sanitize()
	for _, step := range []struct{ has, subject, otherwise string }{
		{selectHasSchema, schema, `create schema ` + pgx.Identifier{schema}.Sanitize()},
		{selectHasVersionTable, table, fmt.Sprintf(createVersionTable, table)},
		{selectHasVersionKey, table, fmt.Sprintf(addVersionKey, table)},
	} {
		var has bool
		if err := conn.QueryRow(ctx, step.has, step.subject).Scan(&has); err != nil {
			return translate(err)
		}
		if has {
			continue
		}
		if _, err := conn.Exec(ctx, step.otherwise); err != nil {
			return fmt.Errorf("schema %q: %w", schema, translate(err))
		}
	}
	return nil
}
