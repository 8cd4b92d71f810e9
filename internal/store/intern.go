package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// content is the unique content of a row of parties (party id, name) or of accounts (type, number). The tenant is part of it: two
// tenants never share a row, so that nothing about one can be learned from the other's ids.
type content struct {
	tenant int32
	a, b   string
}

func compareContent(x, y content) int {
	return cmp.Or(cmp.Compare(x.tenant, y.tenant), cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b))
}

// interner turns content into the id of the one row that holds it, and back. Rows are immutable, so what is once known to be committed is remembered for good, or until internedMax others
// have been learnt since: that it is used is not noted, which would cost more than the look itself.
type interner struct {
	known         *lru.Cache[content, int64]
	named         *lru.Cache[int64, content]
	selectSQL     string
	insertSQL     string
	selectByIDSQL string
}

func newInterner(selectSQL, insertSQL, selectByIDSQL string) (*interner, error) {
	known, err := lru.New[content, int64](internedMax)
	if err != nil {
		return nil, fmt.Errorf("cache of interned rows: %w", err)
	}
	named, err := lru.New[int64, content](internedMax)
	if err != nil {
		return nil, fmt.Errorf("cache of interned rows: %w", err)
	}
	return &interner{known, named, selectSQL, insertSQL, selectByIDSQL}, nil
}

func (in *interner) remember(c content, id int64) {
	in.known.Add(c, id)
	in.named.Add(id, c)
}

// Both find by the unique index on the content. The inserts take their rows in the order of that index: two that insert the same rows
// at once then wait for each other in one order and cannot deadlock.
const (
	selectParties = `select c.tenant_id, c.party_id, c.name, c.id from unnest($1::integer[], $2::text[], $3::text[]) as w (tenant_id, a, b)
		join parties c on c.tenant_id = w.tenant_id and c.party_id = w.a and c.name = w.b`
	insertParties = `insert into parties (tenant_id, party_id, name) select * from unnest($1::integer[], $2::text[], $3::text[])
		on conflict on constraint parties_content_is_unique do nothing returning tenant_id, party_id, name, id`
	selectAccounts = `select c.tenant_id, c.type, c.number, c.id from unnest($1::integer[], $2::text[], $3::text[]) as w (tenant_id, a, b)
		join accounts c on c.tenant_id = w.tenant_id and c.type = w.a and c.number = w.b`
	insertAccounts = `insert into accounts (tenant_id, type, number) select * from unnest($1::integer[], $2::text[], $3::text[])
		on conflict on constraint accounts_content_is_unique do nothing returning tenant_id, type, number, id`

	selectPartiesByID  = `select tenant_id, party_id, name, id from parties where id = any($1::bigint[])`
	selectAccountsByID = `select tenant_id, type, number, id from accounts where id = any($1::bigint[])`
)

// ids returns the row id of each content, in their order. Rows that are missing are written, each statement a transaction of its own: after a crash there may
// be rows that no payment uses, never a payment without its rows. Ids are remembered only once their row is committed.
func (in *interner) ids(ctx context.Context, conn *pgx.Conn, wanted []content) ([]int64, error) {
	ids := make([]int64, len(wanted))
	var missing []content
	for i, c := range wanted {
		var ok bool
		if ids[i], ok = in.known.Peek(c); !ok {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return ids, nil
	}
	found, err := in.intern(ctx, conn, missing)
	if err != nil {
		return nil, err
	}
	for i, c := range wanted {
		if id, ok := found[c]; ok {
			ids[i] = id
		}
	}
	return ids, nil
}

// intern finds or writes the rows of contents that are not remembered.
func (in *interner) intern(ctx context.Context, conn *pgx.Conn, missing []content) (map[content]int64, error) {
	found := make(map[content]int64, len(missing))
	slices.SortFunc(missing, compareContent)
	missing = slices.Compact(missing)
	// Looked for first, since most of what is not remembered is stored (after a restart); inserted next; and looked for once more what
	// another replica inserted in between, which the insert's own snapshot cannot return.
	for _, sql := range []string{in.selectSQL, in.insertSQL, in.selectSQL} {
		if len(missing) == 0 {
			return found, nil
		}
		execute := func(ctx context.Context) error {
			return in.run(ctx, conn, func(c content, id int64) { found[c] = id }, sql, columnsOf(missing)...)
		}
		if err := in.execute(ctx, conn, sql, execute); err != nil {
			return nil, err
		}
		missing = slices.DeleteFunc(missing, func(c content) bool { _, ok := found[c]; return ok })
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d interned rows neither inserted nor found", len(missing))
	}
	return found, nil
}

// execute bounds a statement that reads; one that writes commits, and is waited for.
func (in *interner) execute(ctx context.Context, conn *pgx.Conn, sql string, execute func(context.Context) error) error {
	if sql == in.insertSQL {
		return commitOn(conn, execute)
	}
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	return execute(ctx)
}

// columnsOf lays contents out as the statements want them.
func columnsOf(contents []content) []any {
	tenants, as, bs := make([]int32, len(contents)), make([]string, len(contents)), make([]string, len(contents))
	for i, c := range contents {
		tenants[i], as[i], bs[i] = c.tenant, c.a, c.b
	}
	return []any{tenants, as, bs}
}

// contents returns what the rows of these ids hold, in their order. A row that is missing, as after a partial restore, is an error that names it.
func (in *interner) contents(ctx context.Context, q querier, ids []int64) ([]content, error) {
	contents := make([]content, len(ids))
	var missing []int64
	for i, id := range ids {
		var ok bool
		if contents[i], ok = in.named.Peek(id); !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return contents, nil
	}
	found := make(map[int64]content, len(missing))
	if err := in.run(ctx, q, func(c content, id int64) { found[id] = c }, in.selectByIDSQL, missing); err != nil {
		return nil, err
	}
	for i, id := range ids {
		c, ok := found[id]
		switch {
		case ok:
			contents[i] = c
		case contents[i].tenant == 0:
			return nil, fmt.Errorf("%w: the interned row %d, to which a payment refers, is missing", errImpossible, id)
		}
	}
	return contents, nil
}

// run executes one of the statements, and remembers and reports the rows that it returns.
func (in *interner) run(ctx context.Context, q querier, each func(content, int64), sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return translate(err)
	}
	var c content
	var id int64
	fresh := make(map[int64]content)
	_, err = pgx.ForEachRow(rows, []any{&c.tenant, &c.a, &c.b, &id}, func() error {
		fresh[id] = c
		return nil
	})
	if err != nil {
		return translate(err)
	}
	for id, c := range fresh { // Only now is the statement known to be committed.
		in.remember(c, id)
		each(c, id)
	}
	return nil
}

func partyContent(t payment.TenantRef, p payment.Party) content {
	return content{t.ID, p.ID, p.Name.Reveal()}
}

func accountContent(t payment.TenantRef, a payment.Account) content {
	return content{t.ID, a.Type, a.Number.Reveal()}
}

func (c content) party() payment.Party { return payment.Party{ID: c.a, Name: payment.Private(c.b)} }

func (c content) account() payment.Account {
	return payment.Account{Type: c.a, Number: payment.Private(c.b)}
}
