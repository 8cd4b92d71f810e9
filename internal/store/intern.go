package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// content is the unique content of a row of parties (party id, name) or accounts (type, number).
// The tenant is a part of it. Two tenants never share a row, so the ids of one reveal nothing about
// the other.
type content struct {
	tenant int32
	a, b   string
}

func compareContent(x, y content) int {
	return cmp.Or(cmp.Compare(x.tenant, y.tenant), cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b))
}

// interner maps content to the id of the one row that holds it, and back.
type interner struct {
	rows          *rowCache
	selectSQL     string
	insertSQL     string
	selectByIDSQL string
}

func newInterner(selectSQL, insertSQL, selectByIDSQL string) *interner {
	return &interner{newRowCache(internedBytesMax), selectSQL, insertSQL, selectByIDSQL}
}

// Each row of a batch is looked up in the unique index on the content, one after the other. `offset
// 0` keeps PostgreSQL from turning these statements into joins. A join that is planned for a few
// parties reads the whole index, and the plan is kept while millions are added.
//
// The inserts skip rows that exist, so that a number of the sequence is drawn only for a new row.
// They insert in the order of the unique index. Two that insert the same rows at once then wait for
// each other in one order, and cannot deadlock.
const (
	insertParties = `insert into parties (tenant_id, party_id, name)
		select w.* from unnest($1::integer[], $2::text[], $3::text[]) as w (tenant_id, a, b)
		where not exists (select from parties c where c.tenant_id = w.tenant_id and c.party_id = w.a
		and c.name = w.b offset 0)
		on conflict on constraint parties_content_is_unique do nothing`
	selectParties = `select c.* from unnest($1::integer[], $2::text[], $3::text[]) as w (tenant_id, a, b),
		lateral (select tenant_id, party_id, name, id from parties
			where tenant_id = w.tenant_id and party_id = w.a and name = w.b offset 0) as c`
	insertAccounts = `insert into accounts (tenant_id, type, number)
		select w.* from unnest($1::integer[], $2::text[], $3::text[]) as w (tenant_id, a, b)
		where not exists (select from accounts c where c.tenant_id = w.tenant_id and c.type = w.a
		and c.number = w.b offset 0)
		on conflict on constraint accounts_content_is_unique do nothing`
	selectAccounts = `select c.* from unnest($1::integer[], $2::text[], $3::text[]) as w (tenant_id, a, b),
		lateral (select tenant_id, type, number, id from accounts
			where tenant_id = w.tenant_id and type = w.a and number = w.b offset 0) as c`

	selectPartiesByID  = `select tenant_id, party_id, name, id from parties where id = any($1::bigint[])`
	selectAccountsByID = `select tenant_id, type, number, id from accounts where id = any($1::bigint[])`
)

// intern returns the row ids of parties and accounts, in their order.
//
// Missing rows are inserted before the payment, in a transaction of their own. After a crash there
// may be rows that no payment uses, but never a payment without its rows. Ids are cached only once
// their rows are committed. All of it is one round trip.
func (c *cache) intern(conn *pgx.Conn, parties, accounts []content) (partyIDs, accountIDs []int64, err error) {
	wanted := []*interning{c.parties.begin(parties), c.accounts.begin(accounts)}
	batch := &pgx.Batch{}
	for _, w := range wanted {
		w.queue(batch)
	}
	if batch.Len() > 0 {
		err = commitOn(conn, func(ctx context.Context) error {
			return readInterned(conn.SendBatch(ctx, batch),
				wanted)
		})
	}
	if err != nil {
		return nil, nil, err
	}
	for _, w := range wanted {
		if err := w.end(); err != nil {
			return nil, nil, err
		}
	}
	return wanted[0].ids, wanted[1].ids, nil
}

// interning is one table's part of intern.
type interning struct {
	table  *interner
	wanted []content
	// ids are the ids of wanted; 0 where missing.
	ids []int64
	// missing are in the order of the unique index, each once.
	missing []content
	// found are the missing ones, once they are read.
	found map[content]int64
}

// begin looks contents up in the cache.
func (in *interner) begin(wanted []content) *interning {
	i := &interning{table: in, wanted: wanted, ids: make([]int64, len(wanted))}
	for at, c := range wanted {
		var ok bool
		i.ids[at], ok = in.rows.id(c)
		if !ok {
			i.missing = append(i.missing, c)
		}
	}
	slices.SortFunc(i.missing, compareContent)
	i.missing = slices.Compact(i.missing)
	return i
}

// queue adds the statements that insert and read the missing rows.
func (i *interning) queue(batch *pgx.Batch) {
	if len(i.missing) == 0 {
		return
	}
	columns := columnsOf(i.missing)
	batch.Queue(i.table.insertSQL, columns...)
	// This statement's snapshot sees what another replica has inserted.
	batch.Queue(i.table.selectSQL, columns...)
}

// readInterned reads the results of all statements that were queued.
func readInterned(results pgx.BatchResults, wanted []*interning) (err error) {
	defer func() { err = cmp.Or(err, results.Close()) }()
	for _, i := range wanted {
		if len(i.missing) == 0 {
			continue
		}
		if _, err := results.Exec(); err != nil {
			return err
		}
		i.found, err = scanContents(results)
		if err != nil {
			return err
		}
	}
	return nil
}

// end completes the ids, and caches those that were read.
func (i *interning) end() error {
	if len(i.found) < len(i.missing) {
		return fmt.Errorf("%w: %d of %d interned rows are neither inserted nor found", errCorrupt,
			len(i.missing)-len(i.found), len(i.missing))
	}
	for at, c := range i.wanted {
		if id, ok := i.found[c]; ok {
			i.ids[at] = id
		}
	}
	for c, id := range i.found {
		i.table.rows.add(c, id)
	}
	return nil
}

// scanContents reads the rows of the batch's next statement.
func scanContents(results pgx.BatchResults) (map[content]int64, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	found := map[content]int64{}
	var c content
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&c.tenant, &c.a, &c.b, &id}, func() error {
		found[c] = id
		return nil
	})
	return found, err
}

// columnsOf returns contents as parameters of the statements.
func columnsOf(contents []content) []any {
	tenants, as, bs := make([]int32, len(contents)), make([]string, len(contents)), make([]string, len(contents))
	for i, c := range contents {
		tenants[i], as[i], bs[i] = c.tenant, c.a, c.b
	}
	return []any{tenants, as, bs}
}

// naming is one table's part of reading what payments refer to.
type naming struct {
	table *interner
	ids   []int64
	// contents are those of ids; the zero value where missing.
	contents []content
	missing  []int64
}

// name looks ids up in the cache.
func (in *interner) name(ids []int64) *naming {
	n := &naming{table: in, ids: ids, contents: make([]content, len(ids))}
	for i, id := range ids {
		var ok bool
		n.contents[i], ok = in.rows.content(id)
		if !ok {
			n.missing = append(n.missing, id)
		}
	}
	return n
}

// queue adds the statement that reads the missing rows.
func (n *naming) queue(batch *pgx.Batch) {
	if len(n.missing) > 0 {
		batch.Queue(n.table.selectByIDSQL, n.missing)
	}
}

// read reads the missing rows. A row that does not exist, as after a partial restore, is an error
// that names it.
func (n *naming) read(results pgx.BatchResults) error {
	if len(n.missing) == 0 {
		return nil
	}
	found, err := scanContents(results)
	if err != nil {
		return err
	}
	named := make(map[int64]content, len(found))
	for c, id := range found {
		named[id] = c
		n.table.rows.add(c, id)
	}
	for i, id := range n.ids {
		if c, ok := named[id]; ok {
			n.contents[i] = c
		} else if n.contents[i].tenant == 0 {
			return fmt.Errorf("%w: the interned row %d, to which a payment refers, is missing", errCorrupt, id)
		}
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
