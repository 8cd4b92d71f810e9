//go:build linux

package main

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

const (
	// partitions is how many the drains have, and all else.
	partitions = 4
	// people is how many parties there are, and how many accounts.
	people = 10_000
	tenant = "acme"
)

// installation is a database with a tenant, parties and accounts, and a topic.
type installation struct {
	URL, Broker, Topic, APIKey string
	Name                       string // Of the database.
	tenants                    int    // Made in addition to the first.
	mixed                      bool   // Whether the stored payments have the ids of mixedID.
	sql                        *pgxpool.Pool
	b                          *bench
}

// install makes a database and a topic. Drop it when it is done with, or leave it to the end of the
// run.
func (b *bench) install(ctx context.Context, delivery store.Delivery) (i *installation, err error) {
	b.databases++
	i = &installation{
		Name: fmt.Sprintf("bench_%d", b.databases), Broker: b.installed.Broker,
		Topic: fmt.Sprintf("payments-%d", b.databases), b: b,
	}
	if err := execute(ctx, b.installed.Postgres, "create database "+i.Name); err != nil {
		return nil, err
	}
	u, err := url.Parse(b.installed.Postgres)
	if err != nil {
		return nil, err
	}
	u.Path = "/" + i.Name
	i.URL = u.String()
	if _, err := store.MigrateUp(ctx, i.URL, migrations.FS); err != nil {
		return nil, err
	}
	i.sql, err = pgxpool.New(ctx, i.URL)
	if err != nil {
		return nil, err
	}
	topicID, err := b.createTopic(ctx, i.Topic)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, i.URL, 2)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.InitPartitions(ctx, i.Topic, topicID, delivery, make([]int64, partitions)); err != nil {
		return nil, err
	}
	i.APIKey, err = i.addTenant(ctx, s, tenant)
	if err != nil {
		return nil, err
	}
	return i, i.populate(ctx)
}

func (i *installation) addTenant(ctx context.Context, s *store.Store, name string) (apiKey string, err error) {
	if _, err := s.CreateTenant(ctx, name); err != nil {
		return "", err
	}
	key, err := payment.NewAPIKey("live")
	if err != nil {
		return "", err
	}
	_, err = s.AddAPIKey(ctx, name, key, store.Unrestricted)
	return key.Reveal(), err
}

// createTopic makes a topic and returns its id once the broker leads all of it.
func (b *bench) createTopic(ctx context.Context, name string) (id uuid.UUID, err error) {
	cluster, err := kafka.NewCluster(brokers.At(b.installed.Broker))
	if err != nil {
		return id, err
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	if err := cluster.CreateTopic(ctx, name, partitions, 1); err != nil {
		return id, err
	}
	for {
		ranges, err := cluster.Ranges(ctx, name)
		if err == nil {
			return ranges[0].TopicID, nil
		}
		if ctx.Err() != nil {
			return id, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// populate writes the parties and accounts that all payments are between: number n has the id n+1,
// in both tables.
func (i *installation) populate(ctx context.Context) error {
	var tenantID int32
	if err := i.sql.QueryRow(ctx, `select id from tenants where name = $1`, tenant).Scan(&tenantID); err != nil {
		return err
	}
	_, err := i.sql.CopyFrom(ctx, pgx.Identifier{"parties"}, []string{"tenant_id", "party_id", "name"},
		pgx.CopyFromSlice(people, func(n int) ([]any, error) {
			id, name := party(n)
			return []any{tenantID, id, name}, nil
		}))
	if err != nil {
		return err
	}
	_, err = i.sql.CopyFrom(ctx, pgx.Identifier{"accounts"}, []string{"tenant_id", "type", "number"},
		pgx.CopyFromSlice(people, func(n int) ([]any, error) {
			kind, number := account(n)
			return []any{tenantID, kind, number}, nil
		}))
	return err
}

// party is the n-th party.
func party(n int) (id, name string) {
	return strconv.Itoa(100_000 + n), "Yolanda Quist " + strconv.Itoa(n)
}

// account is the n-th account: an IBAN, or every second time a number of the tenant's own scheme.
func account(n int) (kind, number string) {
	if n%2 == 1 {
		return "checking", strconv.Itoa(7_000_000_000 + n)
	}
	const country, bban = "DE", "%018d"
	digits := fmt.Sprintf(bban, 370_400_440_000_000_000+n)
	// ISO 13616: the number, then country as 13 14 and 00, modulo 97, from 98.
	rest := 0
	for _, c := range digits + "131400" {
		rest = (rest*10 + int(c-'0')) % 97
	}
	return "iban", fmt.Sprintf("%s%02d%s", country, 98-rest, digits)
}

// storedBase is the millisecond that the first of the stored payments' ids begins with: 2026-01-01.
// Later ones begin with later ones, as those of clients do that use UUIDv7.
const storedBase = 1_767_225_600_000

// storedID returns the id of the n-th stored payment, from 1. SQL computes the same, so that a
// generator can request any of them.
func storedID(n int64) string {
	sum := md5.Sum(strconv.AppendInt(nil, n, 10))
	var id [36]byte
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], uint64(storedBase+n)<<16)
	spread := hex.EncodeToString(sum[:])
	text := hex.EncodeToString(raw[:6]) + "8" + spread[:3] + "8" + spread[3:18]
	copy(id[:], text[:8]+"-"+text[8:12]+"-"+text[12:16]+"-"+text[16:20]+"-"+text[20:])
	return string(id[:])
}

// randomID is the id of the n-th stored payment where ids are random, and so anywhere in the
// primary key.
func randomID(n int64) string {
	sum := md5.Sum(strconv.AppendInt(nil, n, 10))
	text := hex.EncodeToString(sum[:])
	return text[:8] + "-" + text[8:12] + "-8" + text[13:16] + "-8" + text[17:20] + "-" + text[20:]
}

// mixedID is the id of the n-th stored payment where every second id is random.
func mixedID(n int64) string {
	if n%2 == 1 {
		return randomID(n)
	}
	return storedID(n)
}

// insertStored writes payments number $1 to $2, evenly over $4 partitions. Their ids are those of
// mixedID when $5, and otherwise of storedID. When $3 they are sent, as nearly all are that are
// stored.
const insertStored = `insert into payments (amount, originator_id, beneficiary_id, sender_id, receiver_id,
		id, tenant_id, partition, currency, reference, status, sent_at, kafka_offset)
	select 10000 + n % 100000, 1 + n % 5000, 5001 + n % 5000, 1 + n % 5000, 5001 + n % 5000,
		case when $5 and n % 2 = 1 then overlay(overlay(md5(n::text) placing '8' from 13) placing '8' from 17)::uuid
			else (lpad(to_hex(1767225600000 + n), 12, '0') || '8' || substr(md5(n::text), 1, 3)
				|| '8' || substr(md5(n::text), 4, 15))::uuid end,
		(select id from tenants where name = 'acme'), n % $4, 'EUR', 'INV-' || n,
		case when $3 then 'sent' else 'created' end::payment_status, case when $3 then now() end,
		case when $3 then n / 4 end
	from generate_series($1::bigint, $2::bigint) as n`

// fill stores n payments and settles.
func (i *installation) fill(ctx context.Context, n int64, sent bool) error {
	if err := i.store(ctx, 1, n, sent, partitions); err != nil {
		return err
	}
	return i.settle(ctx)
}

// store stores payments number from to to in batches, spread over the first partitions.
func (i *installation) store(ctx context.Context, from, to int64, sent bool, partitions int) error {
	const batch = 250_000
	for ; from <= to; from += batch {
		if _, err := i.sql.Exec(ctx, insertStored, from, min(from+batch-1, to), sent, partitions, i.mixed); err != nil {
			return err
		}
	}
	return nil
}

// settle makes runs begin alike: statistics are current, nothing needs vacuuming, and the next
// checkpoint is far away.
func (i *installation) settle(ctx context.Context) error {
	for _, sql := range []string{`vacuum analyze`, `checkpoint`} {
		if _, err := i.sql.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func (i *installation) checkpoint(ctx context.Context) error {
	_, err := i.sql.Exec(ctx, `checkpoint`)
	return err
}

// drop gives the room back.
func (i *installation) drop(ctx context.Context) error {
	i.sql.Close()
	return errors.Join(execute(ctx, i.b.installed.Postgres, "drop database "+i.Name+" with (force)"),
		i.b.deleteTopic(ctx, i.Topic))
}

// withStored returns an installation that has n sent payments and is shared by its users.
func (b *bench) withStored(ctx context.Context, n int64) (*installation, error) {
	if i := b.stored[n]; i != nil {
		return i, nil
	}
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return nil, err
	}
	if err := i.fill(ctx, n, true); err != nil {
		return nil, err
	}
	b.stored[n] = i
	return i, nil
}

func execute(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}
