package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"

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

// interner turns content into the id of the one row that holds it. Rows are immutable, so an id once committed is remembered for good.
type interner struct {
	known     *lru.Cache[content, int64]
	forgotten atomic.Int64 // Counts how often known was emptied.
	selectSQL string
	insertSQL string
}

func newInterner(selectSQL, insertSQL string) (*interner, error) {
	known, err := lru.New[content, int64](internedMax)
	if err != nil {
		return nil, fmt.Errorf("cache of interned rows: %w", err)
	}
	return &interner{known: known, selectSQL: selectSQL, insertSQL: insertSQL}, nil
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
)

// ids returns the row id of each content. Rows that are missing are written, each statement a transaction of its own: after a crash there may
// be rows that no payment uses, never a payment without its rows. Ids are remembered only once their row is committed.
func (in *interner) ids(ctx context.Context, q querier, wanted []content) (map[content]int64, error) {
	found := make(map[content]int64, len(wanted))
	missing := make([]content, 0, len(wanted))
	for _, c := range wanted {
		if id, ok := in.known.Get(c); ok {
			found[c] = id
		} else {
			missing = append(missing, c)
		}
	}
	slices.SortFunc(missing, compareContent)
	missing = slices.Compact(missing)
	// Looked for first, since most of what is not remembered is stored (after a restart); inserted next; and looked for once more what
	// another replica inserted in between, which the insert's own snapshot cannot return.
	for _, sql := range []string{in.selectSQL, in.insertSQL, in.selectSQL} {
		if len(missing) == 0 {
			return found, nil
		}
		if err := in.run(ctx, q, sql, missing, found); err != nil {
			return nil, err
		}
		missing = slices.DeleteFunc(missing, func(c content) bool { _, ok := found[c]; return ok })
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d interned rows neither inserted nor found", len(missing))
	}
	return found, nil
}

// run executes one of the statements for the wanted contents and notes the ids it returns.
func (in *interner) run(ctx context.Context, q querier, sql string, wanted []content, found map[content]int64) error {
	tenants, as, bs := make([]int32, len(wanted)), make([]string, len(wanted)), make([]string, len(wanted))
	for i, c := range wanted {
		tenants[i], as[i], bs[i] = c.tenant, c.a, c.b
	}
	forgotten := in.forgotten.Load()
	rows, err := q.Query(ctx, sql, tenants, as, bs)
	if err != nil {
		return translate(err)
	}
	fresh := make(map[content]int64, len(wanted))
	var c content
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&c.tenant, &c.a, &c.b, &id}, func() error {
		fresh[c] = id
		return nil
	})
	if err != nil {
		return translate(err)
	}
	for c, id := range fresh { // Only now is the statement known to be committed.
		found[c] = id
		if in.forgotten.Load() == forgotten { // Else it may be of a database that is no more.
			in.known.Add(c, id)
		}
	}
	return nil
}

// forget empties what is remembered: the database is another one, in which ids may mean other rows.
func (in *interner) forget() {
	in.forgotten.Add(1)
	in.known.Purge()
}

func partyContent(t payment.TenantRef, p payment.Party) content {
	return content{t.ID, p.ID, p.Name.Reveal()}
}

func accountContent(t payment.TenantRef, a payment.Account) content {
	return content{t.ID, a.Type, a.Number.Reveal()}
}
