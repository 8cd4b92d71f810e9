package main

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

type migrateCommand struct {
	Up     migrateUpCommand     `cmd:"" help:"Bring the schema to this program's version."`
	Down   migrateDownCommand   `cmd:"" help:"Take the schema down by one version, with all the data that version holds."`
	Status migrateStatusCommand `cmd:"" help:"Print the version of the schema."`
}

type (
	migrateUpCommand   struct{ app.DatabaseSettings }
	migrateDownCommand struct {
		app.DatabaseSettings
		Yes bool `help:"Required: going down deletes what the version holds, payments among it."`
	}
	migrateStatusCommand struct{ app.DatabaseSettings }
)

// Run migrates up.
func (c *migrateUpCommand) Run(ctx context.Context, out cli.Output) error {
	return migrate(ctx, out, c.DatabaseSettings, store.MigrateUp)
}

// Run migrates down by one.
func (c *migrateDownCommand) Run(ctx context.Context, out cli.Output) error {
	if !c.Yes {
		return fmt.Errorf("migrate down deletes data; say --yes if that is what you want")
	}
	return migrate(ctx, out, c.DatabaseSettings, store.MigrateDown)
}

// Run prints the version.
func (c *migrateStatusCommand) Run(ctx context.Context, out cli.Output) error {
	return migrate(ctx, out, c.DatabaseSettings, store.MigrationStatus)
}

func migrate(
	ctx context.Context, out cli.Output, database app.DatabaseSettings,
	work func(context.Context, string, fs.FS, ...store.Option) (store.Schema, error),
) error {
	schema, err := showing(ctx, out, "migrating the schema", func() (store.Schema, error) {
		return work(ctx, string(database.URL()), migrations.FS, store.WithAccess(database.Access()))
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.Stdout, schemaText(schema))
	return err
}

// schemaText describes the schema's version. After an update was rolled back the schema is one
// version ahead of the program, which runs on it and must not change it.
func schemaText(s store.Schema) string {
	if s.Current > s.Latest {
		return fmt.Sprintf("schema version %d is newer than this program's %d, which runs on it; nothing was changed",
			s.Current, s.Latest)
	}
	return fmt.Sprintf("schema version %d of %d", s.Current, s.Latest)
}
