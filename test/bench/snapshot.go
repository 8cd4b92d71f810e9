//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// underSnapshot is how many payments are sent while another session holds a snapshot.
func underSnapshot(short bool) int {
	if short {
		return 100_000
	}
	return 500_000
}

// compared are a figure before a snapshot was taken and after many payments were sent under it.
type compared struct{ Before, After float64 }

// measureSnapshot compares the drain rate, and the time of a look that finds nothing, before and
// after many payments were sent while one session holds a snapshot. Vacuum can then remove none of
// the index entries that the sent payments have left.
func measureSnapshot(ctx context.Context, b *bench, short bool) (map[string]figures, error) {
	l := lengthOf(short, length{turns: 5}, length{turns: 3})
	if err := b.warmBroker(ctx); err != nil {
		return nil, err
	}
	drains, looks := figures{raw: map[string]float64{}}, figures{raw: map[string]float64{}}
	for range l.turns {
		c, err := b.drainUnderSnapshot(ctx, underSnapshot(short))
		if err != nil {
			return nil, fmt.Errorf("drain: %w", err)
		}
		drains.work, drains.baseline = append(drains.work, c.After), append(drains.baseline, c.Before)
		c, err = b.lookUnderSnapshot(ctx, underSnapshot(short))
		if err != nil {
			return nil, fmt.Errorf("look: %w", err)
		}
		looks.work, looks.baseline = append(looks.work, c.After), append(looks.baseline, c.Before)
	}
	return map[string]figures{"drain_snapshot": drains, "look_snapshot": looks}, nil
}

// stages are the counts of sent payments at which a drain under a snapshot is timed: from the first
// to the second without a snapshot, and from the third to the fourth after many were sent under
// one.
func stages(under int) [4]int {
	const warm, measured = 100_000, 200_000
	return [4]int{warm, warm + measured, warm + measured + under, warm + measured + under + measured}
}

func (b *bench) drainUnderSnapshot(ctx context.Context, under int) (c compared, err error) {
	const spare = 100_000 // So that all partitions have a backlog to the end.
	i, err := b.backlog(ctx, store.DeliveryFenced, int64(stages(under)[3]+spare))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, i.drop(ctx)) }()
	err = doInto(ctx, "drain_snapshot", job{
		URL: i.URL, Broker: i.Broker, Topic: i.Topic,
		Delivery: string(store.DeliveryFenced), Count: under,
	}, &c)
	return c, errors.Join(err, b.marksAreInTopic(ctx, i, 0))
}

// drainSnapshot plays the role: one sender drains a backlog, and another session takes a snapshot
// at the second of the stages.
func drainSnapshot(ctx context.Context, j job, report func(any) error) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	metrics := newRegistry()
	s, closeAll, err := newSender(j, metrics, func(*sender.Config) {})
	if err != nil {
		return err
	}
	defer closeAll()
	running, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { s.Run(running) })
	c, err := timeStages(ctx, j, metrics)
	stop()
	work.Wait()
	return errors.Join(err, report(c))
}

func timeStages(ctx context.Context, j job, metrics *registry) (c compared, err error) {
	type mark struct {
		sent int
		at   time.Time
	}
	var marks []mark
	for _, stage := range stages(j.Count) {
		sent := 0
		for sent < stage {
			sent, err = metrics.sent()
			if err != nil {
				return c, err
			}
			if ctx.Err() != nil {
				return c, fmt.Errorf("%d payments were sent: %w", sent, ctx.Err())
			}
			time.Sleep(time.Millisecond)
		}
		marks = append(marks, mark{sent, time.Now()})
		if len(marks) == 2 {
			end, err := holdSnapshot(ctx, j.URL)
			if err != nil {
				return c, err
			}
			defer end()
		}
	}
	rate := func(from, to mark) float64 { return float64(to.sent-from.sent) / to.at.Sub(from.at).Seconds() }
	return compared{Before: rate(marks[0], marks[1]), After: rate(marks[2], marks[3])}, nil
}

// holdSnapshot takes a snapshot in a session of its own and keeps it until end is called.
func holdSnapshot(ctx context.Context, url string) (end func(), err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	end = func() { _ = conn.Close(context.WithoutCancel(ctx)) }
	_, err = conn.Exec(ctx, `begin isolation level repeatable read read only; select count(*) from tenants`)
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

func (b *bench) lookUnderSnapshot(ctx context.Context, under int) (c compared, err error) {
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, i.drop(ctx)) }()
	err = doInto(ctx, "look_snapshot", job{URL: i.URL, Count: under}, &c)
	return c, err
}

// lookSnapshot plays the role: the owner of a partition marks payments and looks for more, and
// another session takes a snapshot before most of them are stored. Kafka has no part in it.
func lookSnapshot(ctx context.Context, j job, report func(any) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	o, err := newOwner(ctx, j.URL)
	if err != nil {
		return err
	}
	defer o.close()
	const few = 20_000
	var c compared
	c.Before, err = o.sendAndLook(ctx, few)
	if err != nil {
		return err
	}
	end, err := holdSnapshot(ctx, j.URL)
	if err != nil {
		return err
	}
	defer end()
	c.After, err = o.sendAndLook(ctx, j.Count)
	if err != nil {
		return err
	}
	return report(c)
}

// owner owns partition 0, and marks payments as if they were in the topic.
type owner struct {
	payments *store.Store
	session  *store.Session
	fill     *installation
	stored   int64
}

func newOwner(ctx context.Context, url string) (o *owner, err error) {
	o = &owner{fill: &installation{}}
	o.fill.sql, err = pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	o.payments, err = store.Open(ctx, url, 2)
	if err != nil {
		return nil, err
	}
	o.session, err = o.payments.Own(ctx, 0)
	return o, err
}

func (o *owner) close() {
	o.session.Close()
	o.payments.Close()
	o.fill.sql.Close()
}

// sendAndLook stores so many payments, marks them all in batches, and returns how many milliseconds
// a look takes that finds nothing: the median of some hundreds.
func (o *owner) sendAndLook(ctx context.Context, count int) (ms float64, err error) {
	const looks = 300
	if err := o.fillUp(ctx, int64(count)); err != nil {
		return 0, err
	}
	for more := true; more; {
		more, err = o.markBatch(ctx)
		if err != nil {
			return 0, err
		}
	}
	took := histogram()
	for range looks {
		at := time.Now()
		unsent, err := o.session.HasUnsent(ctx)
		if err == nil && unsent {
			err = errors.New("a look finds a payment after all were marked")
		}
		if err != nil {
			return 0, err
		}
		if err := took.RecordValue(max(time.Since(at).Microseconds(), 1)); err != nil {
			return 0, err
		}
	}
	return percentiles(took).P50, nil
}

// fillUp stores so many payments and keeps the session alive, as an owner does.
func (o *owner) fillUp(ctx context.Context, count int64) error {
	const one, step = 1, 20_000
	for to := o.stored + count; o.stored < to; {
		next := min(o.stored+step, to)
		if err := o.fill.store(ctx, o.stored+1, next, false, one); err != nil {
			return err
		}
		o.stored = next
		if _, err := o.session.HasUnsent(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (o *owner) markBatch(ctx context.Context) (more bool, err error) {
	claim, err := o.session.Claim(ctx, sender.BatchMaxDefault)
	if err != nil {
		return false, err
	}
	defer claim.Rollback()
	n, next := len(claim.Payments), claim.Partition.NextOffset
	if n == 0 {
		return false, claim.Commit(ctx)
	}
	if err := claim.MarkSent(ctx, next, n, next+int64(n)); err != nil {
		return false, err
	}
	return true, claim.Commit(ctx)
}
