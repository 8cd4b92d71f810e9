package store_test

import (
	"slices"
	"testing"

	"github.com/paylatch/paylatch/internal/store"
)

// TestExamination_Triggers: the doctor looks for all triggers that the migrations make.
func TestExamination_Triggers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	want := query[[]string](f, `select array_agg(c.relname || '.' || t.tgname order by 1) from pg_trigger t
		join pg_class c on c.oid = t.tgrelid where not t.tgisinternal and c.relnamespace = 'public'::regnamespace`)
	got := slices.Clone(store.Triggers)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
