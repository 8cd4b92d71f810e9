package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/paylatch/paylatch/internal/payment"
)

// errOtherPrimary says that what was read came from another incarnation of the database than the
// one that confirms it: a failover lies between the two.
var errOtherPrimary = fmt.Errorf("%w: the database has failed over since the read", payment.ErrUnavailable)

// barrier confirms what was read: a commit of our own that began after the read, and for which the
// synchronous standby has vouched, vouches for all WAL before it, and so for every row that was
// visible. A row can be visible without that: its commit waits for a standby that is away, the wait
// was cancelled, or the primary was restarted meanwhile.
//
// One commit at a time serves all callers that came before it began. Safe for concurrent use.
type barrier struct {
	commit func() (incarnation string, err error)

	mu sync.Mutex
	// Of the commit that begins next; nil while nobody waits for it.
	next    *confirmation
	running bool
	over    sync.WaitGroup
}

// confirmation is the result of one commit, once done is closed.
type confirmation struct {
	done        chan struct{}
	incarnation string
	err         error
}

// wait returns nil after a commit that began after the call, and the incarnation that it was on.
func (b *barrier) wait(ctx context.Context) (incarnation string, err error) {
	c := b.join()
	select {
	case <-c.done:
		return c.incarnation, c.err
	case <-ctx.Done():
		return "", translate(ctx.Err())
	}
}

// confirm is wait for what was read from the given incarnation.
func (b *barrier) confirm(ctx context.Context, read string) error {
	incarnation, err := b.wait(ctx)
	if err == nil && incarnation != read {
		err = errOtherPrimary
	}
	return err
}

// join returns the commit that begins next.
func (b *barrier) join() *confirmation {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = &confirmation{done: make(chan struct{})}
		if !b.running {
			b.running = true
			b.over.Go(b.run)
		}
	}
	return b.next
}

// run commits until nobody waits.
func (b *barrier) run() {
	for {
		b.mu.Lock()
		c := b.next
		b.next = nil
		if c == nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		c.incarnation, c.err = b.commit()
		close(c.done)
	}
}

// close waits for the commit under way.
func (b *barrier) close() { b.over.Wait() }

// A message in the WAL that nobody reads: transactional, so that it has a transaction id and its
// commit waits as every other does. It needs no table and no wal_level.
// Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
const emitMessage = `select pg_logical_emit_message(true, 'paylatch', '')`

// commitMessage is the commit of a barrier.
func (s *Store) commitMessage() (incarnation string, err error) {
	pooled, err := s.acquire(context.Background())
	if err != nil {
		return "", err
	}
	defer pooled.Release()
	conn := pooled.Conn()
	err = commitOn(conn, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, emitMessage)
		return err
	})
	return stateOf(conn).incarnation, err
}

// read says where something was read, and whether that must be confirmed before it is reported.
type read struct {
	incarnation string
	// A synchronous standby was configured.
	unconfirmed bool
}

// confirm returns nil once what was read is on the synchronous standby, if there is one.
func (s *Store) confirm(ctx context.Context, r read) error {
	if !r.unconfirmed {
		return nil
	}
	return s.barrier.confirm(ctx, r.incarnation)
}
