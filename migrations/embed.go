// Package migrations holds the schema of the database as numbered tern migrations. schema.sql is
// their sum, for readers.
package migrations

import "embed"

// FS has the migrations in tern's format. store.MigrateUp executes them.
//
//go:embed *_*.sql
var FS embed.FS

// Latest returns the version of the schema that all migrations together make. Migrations are
// numbered from 1 without a gap; tern refuses others.
func Latest() int32 { return latest }

var latest = func() int32 {
	files, err := FS.ReadDir(".")
	if err != nil {
		panic(err) // An embedded directory can be read.
	}
	return int32(len(files))
}()
