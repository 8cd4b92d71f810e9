package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/paylatch/paylatch/internal/payment"
)

// errOtherPrimary means that a row was read from another incarnation of the database than the one
// that confirms it: there was a failover in between.
var errOtherPrimary = fmt.Errorf("%w: the database has failed over since the read", payment.ErrUnavailable)

// barrier confirms what was read. A commit of our own that began after the read, and that the
// synchronous standby has confirmed, confirms all WAL before it, and so every row that was visible.
//
// A row can be visible without that. Its commit waits for a standby that is away, or the wait was
// cancelled, or the primary was restarted during the wait.
//
// One commit at a time serves all callers that came before it began. Safe for concurrent use.
type barrier struct {
	commit func() (incarnation string, err error)

	mu sync.Mutex
	// next is the commit that begins next. It is nil while no caller waits for it.
	next    *confirmation
	running bool
	commits sync.WaitGroup
}

// confirmation is the result of one commit, once done is closed.
type confirmation struct {
	done        chan struct{}
	incarnation string
	err         error
}

// wait waits for a commit that began after the call, and returns the incarnation that it was on.
func (b *barrier) wait(ctx context.Context) (incarnation string, err error) {
	c := b.join()
	select {
	case <-c.done:
		return c.incarnation, c.err
	case <-ctx.Done():
		return "", translate(ctx.Err())
	}
}

// confirm is like wait, for what was read from the given incarnation. It returns errOtherPrimary
// for a commit on another one.
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
			b.commits.Go(b.run)
		}
	}
	return b.next
}

// run commits until no caller waits.
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

// close waits for the commit in progress.
func (b *barrier) close() { b.commits.Wait() }

// emitMessage writes a message to the WAL that no program reads. It is transactional, so it has a
// transaction id, and its commit waits like any other. It needs no table and no wal_level. Source:
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
const emitMessage = `select pg_logical_emit_message(true, 'paylatch', '')`

// commitMessage is the commit of a barrier. It returns the incarnation that it was on.
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

// read is where something was read, and whether it must be confirmed before it is reported.
type read struct {
	incarnation string
	// unconfirmed is true if a synchronous standby was configured.
	unconfirmed bool
}

// confirm returns nil once what was read is on the synchronous standby, if there is one.
func (s *Store) confirm(ctx context.Context, r read) error {
	if !r.unconfirmed {
		return nil
	}
	return s.barrier.confirm(ctx, r.incarnation)
}
