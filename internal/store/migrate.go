package store

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"
)

// schemaVersion is the table in which tern keeps the schema's version.
const schemaVersion = "public.schema_version"

// Schema is the version a database has and the version this program needs.
type Schema struct{ Current, Latest int32 }

// MigrateUp brings the schema to the latest version. Several callers at once are fine: tern holds an advisory lock, and those who
// come later find nothing to do. Each migration is one transaction; a crash leaves the schema at a whole version.
func MigrateUp(ctx context.Context, url string, migrations fs.FS) (Schema, error) {
	return withMigrator(ctx, url, migrations, func(m *migrate.Migrator, s *Schema) error {
		s.Current = s.Latest
		return m.Migrate(ctx)
	})
}

// MigrateDown takes the schema down by one version, with all that is stored in what that version brought.
func MigrateDown(ctx context.Context, url string, migrations fs.FS) (Schema, error) {
	return withMigrator(ctx, url, migrations, func(m *migrate.Migrator, s *Schema) error {
		if s.Current == 0 {
			return nil
		}
		s.Current--
		return m.MigrateTo(ctx, s.Current)
	})
}

// MigrationStatus tells the schema's version.
func MigrationStatus(ctx context.Context, url string, migrations fs.FS) (Schema, error) {
	return withMigrator(ctx, url, migrations, func(*migrate.Migrator, *Schema) error { return nil })
}

func withMigrator(ctx context.Context, url string, migrations fs.FS, work func(*migrate.Migrator, *Schema) error) (Schema, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return Schema{}, fmt.Errorf("database URL: %w", err)
	}
	config.ConnectTimeout = connectTimeout
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return Schema{}, translate(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	m, err := migrate.NewMigrator(ctx, conn, schemaVersion)
	if err != nil {
		return Schema{}, fmt.Errorf("migrations: %w", err)
	}
	if err := m.LoadMigrations(migrations); err != nil {
		return Schema{}, fmt.Errorf("migrations: %w", err)
	}
	s := Schema{Latest: int32(len(m.Migrations))} //nolint:gosec // G115: a handful of files.
	if s.Current, err = m.GetCurrentVersion(ctx); err != nil {
		return s, fmt.Errorf("migrations: %w", err)
	}
	if s.Current > s.Latest {
		return s, fmt.Errorf("the database's schema is version %d, newer than this program's %d: use a newer paylatch", s.Current, s.Latest)
	}
	if err := work(m, &s); err != nil {
		return s, fmt.Errorf("migrations: %w", err)
	}
	return s, nil
}
