// Package migrations holds the database's schema as numbered tern migrations, and schema.sql, their
// sum, for readers.
package migrations

import "embed"

// FS holds the migrations in tern's format; store.Migrate runs them.
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
