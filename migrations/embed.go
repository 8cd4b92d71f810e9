// Package migrations holds the database's schema as numbered tern migrations, and schema.sql, their sum, for readers.
package migrations

import "embed"

// FS holds the migrations in tern's format; store.Migrate runs them.
//
//go:embed *_*.sql
var FS embed.FS
