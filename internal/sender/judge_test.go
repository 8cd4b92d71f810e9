package sender

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// place is where a record is in the topic.
type place struct {
	partition int32
	offset    int64
}

// log reads the whole topic, read_committed, and returns where each payment is.
func (r *rig) log() map[place]string {
	r.t.Helper()
	ctx := bounded(r.t)
	ranges, err := r.cluster.Ranges(ctx, r.topic)
	if err != nil {
		r.t.Fatal(err)
	}
	found := map[place]string{}
	for i, g := range ranges {
		p := int32(i)
		if err := r.cluster.Read(ctx, r.topic, p, g.Start, g.End, func(record kafka.Record) error {
			found[place{p, record.Offset}] = string(record.Key)
			return nil
		}); err != nil {
			r.t.Fatal(err)
		}
	}
	return found
}

// inOrder lists which payments a partition holds, in order.
func (r *rig) inOrder(partition int32) []string {
	r.t.Helper()
	var places []place
	log := r.log()
	for at := range log {
		if at.partition == partition {
			places = append(places, at)
		}
	}
	slices.SortFunc(places, func(a, b place) int { return int(a.offset - b.offset) })
	ids := make([]string, len(places))
	for i, at := range places {
		ids[i] = log[at]
	}
	return ids
}

func idsOf(payments []payment.Payment) []string {
	ids := make([]string, len(payments))
	for i, p := range payments {
		ids[i] = p.ID.String()
	}
	return ids
}

// wantInOrder checks what a partition holds, record by record.
func (r *rig) wantInOrder(partition int32, want ...[]payment.Payment) {
	r.t.Helper()
	got, ids := r.inOrder(partition), idsOf(slices.Concat(want...))
	if !slices.Equal(got, ids) {
		r.t.Errorf("partition %d holds %d records, want %d:\n%v\n%v", partition, len(got), len(ids), got, ids)
	}
}

// verdict checks that each payment is in the topic exactly once, except for those in repeated,
// which are there twice. Each is marked sent, at a record of its own. Nothing else is in the topic.
func (r *rig) verdict(repeated ...payment.Payment) {
	r.t.Helper()
	times := map[string]int{}
	for _, id := range idsOf(repeated) {
		times[id] = 1
	}
	r.judge(func(id string, n int) bool { return n == 1+times[id] })
}

// verdictAtLeastOnce allows each payment to be in the topic up to most times.
func (r *rig) verdictAtLeastOnce(most int) {
	r.t.Helper()
	r.judge(func(_ string, n int) bool { return 1 <= n && n <= most })
}

func (r *rig) judge(right func(id string, times int) bool) {
	r.t.Helper()
	log, times := r.log(), map[string]int{}
	for _, id := range log {
		times[id]++
	}
	rows, err := r.sql.Query(bounded(r.t), `select id, partition, coalesce(kafka_offset, -1), status::text
		from payments`)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var partition int16
		var offset int64
		var status string
		if err := rows.Scan(&id, &partition, &offset, &status); err != nil {
			r.t.Fatal(err)
		}
		key := id.String()
		if n := times[key]; !right(key, n) {
			r.t.Errorf("payment %s (%s) is in the topic %d times", key, status, n)
		}
		if at := log[place{int32(partition), offset}]; status != "sent" || at != key {
			r.t.Errorf("payment %s is %s at %d/%d, where %q is", key, status, partition, offset, at)
		}
		delete(times, key)
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	if len(times) > 0 {
		r.t.Errorf("%d records are of no payment: %v", len(times), times)
	}
}

// wantUnsent checks that exactly so many payments of the partition wait.
func (r *rig) wantUnsent(partition int32, want int) {
	r.t.Helper()
	if got := r.unsent(partition); got != want {
		r.t.Errorf("partition %d has %d unsent payments, want %d", partition, got, want)
	}
}

func (r *rig) unsent(partition int32) int {
	r.t.Helper()
	return r.count(`select count(*) from payments where partition = $1 and status = 'created'`, partition)
}

// allSent waits until no payment is unsent.
func (r *rig) allSent() {
	r.t.Helper()
	until(r.t, "all are sent", func() bool {
		return r.count(
			`select count(*) from payments where status = 'created'`) == 0
	})
}

// row returns the partition's row.
func (r *rig) row(partition int32) store.Partition {
	r.t.Helper()
	all, err := r.store.Partitions(bounded(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	return all[partition]
}

// wantRow checks how far a partition is, and that it is active.
func (r *rig) wantRow(partition int32, nextOffset int64) {
	r.t.Helper()
	if p := r.row(partition); p.NextOffset != nextOffset || p.State != store.StateActive || p.Reason != "" {
		r.t.Errorf("partition %d: next offset %d, %s %q; want %d, active", partition, p.NextOffset, p.State, p.Reason,
			nextOffset)
	}
}

// Advisory locks, as package store takes them: of a replica, and of the owner of a partition.
const (
	sessionsOfReplicas = `from pg_locks where locktype = 'advisory' and granted and classid = 1886413921
		and database = (select oid from pg_database where datname = current_database())`
	sessionsOfPartitions = `from pg_locks where locktype = 'advisory' and granted and classid = 1886413922
		and database = (select oid from pg_database where datname = current_database())`
)

// terminate ends the session that owns partition 0, and waits until it is gone.
func (r *rig) terminate() {
	r.t.Helper()
	if n := r.count(`select count(pg_terminate_backend(pid)) ` + sessionsOfPartitions + ` and objid = 0`); n != 1 {
		r.t.Fatalf("%d sessions own partition 0: nothing was tested", n)
	}
	until(r.t, "the session is gone", func() bool {
		return r.count(`select count(*) `+sessionsOfPartitions+` and objid = 0`) == 0
	})
}

// sendBatch sends a batch, which must succeed and send something.
func sendBatch(t testing.TB, o *partitionWorker) {
	t.Helper()
	if again, err := o.sendBatch(bounded(t)); err != nil || !again {
		t.Fatalf("batch: again %t, error %v", again, err)
	}
}
