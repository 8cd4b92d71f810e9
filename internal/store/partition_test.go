package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// TestStore_InitPartitions: once the topic is set up, there is a row for each partition, from its
// own end, and active.
func TestStore_InitPartitions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	if none, err := f.Partitions(t.Context()); err != nil || len(none) != 0 {
		t.Fatalf("%d partitions before, %v", len(none), err)
	}
	topicID, ends := uuid.New(), []int64{0, 17, 4_000_000_000}
	if err := f.InitPartitions(t.Context(), topic, topicID, store.DeliveryFenced, ends); err != nil {
		t.Fatal(err)
	}
	partitions, err := f.Partitions(t.Context())
	if err != nil || len(partitions) != len(ends) {
		t.Fatalf("%d partitions, %v, want %d", len(partitions), err, len(ends))
	}
	for i, p := range partitions {
		want := store.Partition{
			Number: int32(i), Topic: topic, TopicID: topicID, Delivery: store.DeliveryFenced, NextOffset: ends[i],
			State:           store.StateActive,
			TransactionalID: p.TransactionalID, ChangedAt: p.ChangedAt,
		}
		if p != want || p.TransactionalID == "" || p.ChangedAt.IsZero() {
			t.Errorf("partition %d is %+v, want %+v", i, p, want)
		}
	}
	if ids := transactionalIDs(f); len(ids) != len(ends) {
		t.Errorf("transactional ids %q are not %d different ones", ids, len(ends))
	}
}

// transactionalIDs returns the distinct ids in use, sorted.
func transactionalIDs(f *fixture) []string {
	f.t.Helper()
	return query[[]string](f, `select array_agg(distinct transactional_id order by transactional_id)
		from topic_partitions`)
}

// TestStore_InitPartitions_AllOrNothing: the third of four partitions cannot be written. Then none
// may be written, or payments would be spread over two.
func TestStore_InitPartitions_AllOrNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryLocked, []int64{0, 0, -1, 0})
	if constraintOf(err) != "topic_partitions_next_offset_not_negative" {
		t.Errorf("error %v, want the broken constraint", err)
	}
	if partitions, err := f.Partitions(t.Context()); err != nil || len(partitions) != 0 {
		t.Errorf("%d partitions are left, %v", len(partitions), err)
	}
	if err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryLocked, make([]int64, 4)); err != nil {
		t.Errorf("once more, rightly: %v", err)
	}
}

// TestStore_InitPartitions_Twice: an operator who sets the topic up once more, with any count, gets
// an error and changes nothing.
func TestStore_InitPartitions_Twice(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	before, err := f.Partitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 5} {
		err := f.InitPartitions(t.Context(), "another", uuid.New(), store.DeliveryFenced, make([]int64, n))
		if !errors.Is(err, store.ErrTopicIsSetUp) {
			t.Errorf("%d partitions: %v, want ErrTopicIsSetUp", n, err)
		}
	}
	if after, err := f.Partitions(t.Context()); err != nil || !slices.Equal(after, before) {
		t.Errorf("the partitions have changed: %v", err)
	}
}

// TestStore_InitPartitions_AtOnce: five operators set the topic up at once, each with another
// count. One does it completely; the others get an error.
func TestStore_InitPartitions_AtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	type result struct {
		n   int
		err error
	}
	const operators = 5
	results, start := make(chan result, operators), make(chan struct{})
	for i := range operators {
		s := openStore(t, f.url)
		go func() {
			<-start
			ends := make([]int64, i+3)
			results <- result{len(ends), s.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryLocked, ends)}
		}()
	}
	close(start)
	done := 0
	for range operators {
		r := receive(t, results)
		if r.err == nil {
			done += r.n
		} else if !errors.Is(r.err, store.ErrTopicIsSetUp) {
			t.Errorf("an operator got %v, want ErrTopicIsSetUp", r.err)
		}
	}
	partitions, err := f.Partitions(t.Context())
	if err != nil || len(partitions) != done {
		t.Fatalf("%d partitions, %v, want the %d of the one who succeeded", len(partitions), err, done)
	}
	for _, p := range partitions {
		if p.TopicID != partitions[0].TopicID {
			t.Error("two operators' partitions are mixed")
		}
	}
}

// TestStore_Backlog: the backlog of each partition has the number of created payments, and the age
// of the first in order. Sent ones do not count.
func TestStore_Backlog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	sent := f.create(f.inPartition("sent", 0, 3))
	f.tamper(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0,
		created_at = now() - interval '9 days' where id = $1`, [16]byte(sent.ID))
	oldest := f.create(f.inPartition("oldest", 0, 3))
	f.tamper(`update payments set created_at = now() - interval '1 hour' where id = $1`, [16]byte(oldest.ID))
	f.create(f.inPartition("newest", 0, 3))
	ahead := f.create(f.inPartition("ahead", 2, 3))
	// The clock was set back after that.
	f.tamper(`update payments set created_at = now() + interval '1 hour' where id = $1`, [16]byte(ahead.ID))
	if err := f.Halt(t.Context(), 2, "why"); err != nil {
		t.Fatal(err)
	}
	backlog, err := f.Backlog(t.Context())
	if err != nil || len(backlog) != 3 {
		t.Fatalf("%d partitions, %v, want 3", len(backlog), err)
	}
	if age := backlog[0].OldestAge; age < time.Hour || age > 2*time.Hour {
		t.Errorf("the oldest of partition 0 is %v old, want an hour and what the test took", age)
	}
	if backlog[0].OldestSeq != oldest.Seq || backlog[1].OldestSeq != 0 || backlog[2].OldestSeq != ahead.Seq {
		t.Errorf("the oldest are %d, %d and %d, want %d, 0 and %d",
			backlog[0].OldestSeq, backlog[1].OldestSeq, backlog[2].OldestSeq, oldest.Seq, ahead.Seq)
	}
	for i := range backlog {
		backlog[i].OldestSeq = 0
	}
	backlog[0].OldestAge = 0
	for i, want := range []store.Backlog{
		{Partition: 0, State: store.StateActive, Unsent: 2},
		{Partition: 1, State: store.StateActive},
		{Partition: 2, State: store.StateHalted, Unsent: 1},
	} {
		if backlog[i] != want {
			t.Errorf("backlog %+v, want %+v", backlog[i], want)
		}
	}
}

// TestCreate_OtherPartitionCount: the topic has more partitions than a running process knows (it
// has grown), or fewer (the database was restored to a state from before that). In both cases no
// payment is stored for a partition that the present count does not lead to, since no sender might
// ever serve it.
func TestCreate_OtherPartitionCount(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		known int
		then  string
	}{
		"More": {2, `insert into topic_partitions (partition, topic, topic_id, transactional_id, delivery, next_offset)
			select n, topic, topic_id, 'other-' || n, delivery, 0 from topic_partitions, generate_series(2, 11) as n
			where partition = 0`},
		"Fewer": {12, `delete from topic_partitions where partition >= 2`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, row.known)
			f.create(f.payment("before"))
			f.exec(row.then)
			count := query[int32](f, `select count(*) from topic_partitions`)
			for partition := range int32(12) {
				stored := f.create(f.inPartition(fmt.Sprint("after-", partition), partition, 12))
				if want := payment.PartitionOf(stored.PartitionHash, count); stored.Partition != want {
					t.Errorf("a payment is for partition %d, want %d of %d", stored.Partition, want, count)
				}
			}
		})
	}
}
