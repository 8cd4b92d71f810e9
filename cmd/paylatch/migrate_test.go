package main

import (
	"testing"

	"github.com/paylatch/paylatch/internal/store"
)

func TestSchemaText(t *testing.T) {
	for _, tc := range []struct {
		schema store.Schema
		want   string
	}{
		{store.Schema{Current: 6, Latest: 6}, "schema version 6 of 6"},
		{store.Schema{Current: 0, Latest: 6}, "schema version 0 of 6"},
		{
			store.Schema{Current: 7, Latest: 6},
			"schema version 7 is newer than this program's 6, which runs on it; nothing was changed",
		},
	} {
		if got := schemaText(tc.schema); got != tc.want {
			t.Errorf("%+v: got %q, want %q", tc.schema, got, tc.want)
		}
	}
}
