//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// insertOne is a plain INSERT of a payment, without ON CONFLICT and RETURNING.
const insertOne = `insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id,
		sender_id, receiver_id, reference, trace_context, partition)
	values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

// insert plays the role: so many connections insert one prepared row after the other, each a commit
// of its own, for so long.
func insert(ctx context.Context, j job, report func(any) error) error {
	conns := make([]*pgx.Conn, j.Connections)
	for n := range conns {
		conn, err := pgx.Connect(ctx, j.URL)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Prepare(ctx, insertOne, insertOne); err != nil {
			return err
		}
		conns[n] = conn
	}
	cpu, began := ownCPU(), time.Now()
	counts := make([]int64, len(conns))
	work, ctx := errgroup.WithContext(ctx)
	for n, conn := range conns {
		work.Go(func() error {
			for time.Since(began) < j.For {
				if err := insertPayment(ctx, conn); err != nil {
					return err
				}
				counts[n]++
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	r := result{Seconds: time.Since(began).Seconds(), ClientCPU: ownCPU() - cpu}
	for _, n := range counts {
		r.Done += n
	}
	return report(r)
}

func insertPayment(ctx context.Context, conn *pgx.Conn) error {
	n := rand.Int64N(people / 2)
	amount, reference := 100_000+rand.Int64N(900_000), "INV-12345678"
	_, err := conn.Exec(ctx, insertOne, newID(), 1, amount, "EUR", n+1, n+1+people/2, n+1, n+1+people/2, reference,
		nil, n%partitions)
	return err
}

// newID is as our ids are: the time first, the rest at random.
func newID() uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(time.Now().UnixMilli())<<16|rand.Uint64()&0xffff)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
