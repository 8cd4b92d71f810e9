package migrations_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

var update = flag.Bool("update", false, "rewrite schema.sql")

// TestSchema_FileIsCurrent shows that schema.sql is what the migrations make. `make schema` writes
// it.
func TestSchema_FileIsCurrent(t *testing.T) {
	got := dump(t, parts.Postgres(t))
	if *update {
		if err := os.WriteFile("schema.sql", []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("schema.sql is not what the migrations make; run make schema. They make:\n%s", got)
	}
}

// TestMigrations_DownAndUp shows that every migration can be taken back and made again, down to an
// empty database, and that `up` is repeatable.
func TestMigrations_DownAndUp(t *testing.T) {
	url := parts.EmptyPostgres(t)
	up := func() {
		schema, err := store.MigrateUp(t.Context(), url, migrations.FS)
		if err != nil || schema.Current != schema.Latest {
			t.Fatalf("up: %+v, %v", schema, err)
		}
	}
	up()
	up()
	full := dump(t, url)
	schema, err := store.MigrationStatus(t.Context(), url, migrations.FS)
	for ; err == nil && schema.Current > 0; schema, err = store.MigrateDown(t.Context(), url, migrations.FS) {
		t.Logf("at version %d", schema.Current)
	}
	if err != nil {
		t.Fatal(err)
	}
	if left := dump(t, url); left != header {
		t.Errorf("at version 0 there is still:\n%s", left)
	}
	up()
	if again := dump(t, url); again != full {
		t.Errorf("down and up again makes another schema:\n%s", again)
	}
}

// TestMigrations_Concurrent shows that replicas that start at once may all migrate.
func TestMigrations_Concurrent(t *testing.T) {
	url := parts.EmptyPostgres(t)
	errs := make(chan error)
	const replicas = 5
	for range replicas {
		go func() {
			_, err := store.MigrateUp(context.WithoutCancel(t.Context()), url, migrations.FS)
			errs <- err
		}()
	}
	for range replicas {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

const header = "-- The sum of the migrations, for readers. `make schema` writes it; `make verify` checks that\n" +
	"-- it is current.\n"

// objects lists what a schema is made of, by PostgreSQL's own words for it, in an order that does
// not depend on oids.
const objects = `
select 1, typname, format(E'create type %s as enum (%s);', typname,
	(select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder) from pg_enum where enumtypid = t.oid))
from pg_type t where typtype = 'e' and typnamespace = 'public'::regnamespace
union all
select 2, c.relname, format('create sequence %s as %s cache %s;', c.relname, format_type(s.seqtypid, null), s.seqcache)
from pg_class c join pg_sequence s on s.seqrelid = c.oid
where c.relnamespace = 'public'::regnamespace and not exists (select from pg_depend d where d.objid = c.oid
and d.deptype = 'i')
union all
select 3, p.proname, pg_get_functiondef(p.oid) || ';' from pg_proc p where p.pronamespace = 'public'::regnamespace
union all
select 4, c.relname, format(E'create table %s (\n%s\n)%s;', c.relname,
	(select string_agg('    ' || line, E',\n' order by rank, position, line) from (
		select 1 as rank, a.attnum as position, concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
			case when a.attnotnull then 'not null' end,
			case a.attidentity when 'a' then 'generated always as identity' end,
			'default ' || pg_get_expr(d.adbin, d.adrelid)) as line
		from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		union all
		select 2, case contype when 'p' then 1 when 'u' then 2 when 'f' then 3
		else 4 end, format('constraint %s %s', conname, pg_get_constraintdef(k.oid))
		from pg_constraint k where k.conrelid = c.oid and contype in ('p', 'u', 'f', 'c')) as lines),
	' with (' || array_to_string(c.reloptions, ', ') || ')')
from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and c.relname <> 'schema_version'
union all
select 5, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) || ';' from pg_index i
join pg_class c on c.oid = i.indrelid
where c.relnamespace = 'public'::regnamespace and not exists (select from pg_constraint k
where k.conindid = i.indexrelid)
union all
select 6, tgname, pg_get_triggerdef(t.oid) || ';' from pg_trigger t where not tgisinternal
order by 1, 2`

func dump(t *testing.T, url string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), objects)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(header)
	var rank int
	var name, definition string
	if _, err := pgx.ForEachRow(rows, []any{&rank, &name, &definition}, func() error {
		b.WriteString("\n" + definition + "\n")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
