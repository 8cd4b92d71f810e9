package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/auditor"
)

// markBeyond marks the unsent payments of a partition as sent, at offsets beyond every log of these
// tests.
const markBeyond = `update payments set status = 'sent', sent_at = now(), kafka_offset = seq + 1000000
	where partition = $1 and status = 'created'`

// TestVerify_BeyondTheEnd marks five payments as sent beyond the end of the log. Verify counts them
// as missing.
func TestVerify_BeyondTheEnd(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.bulk(t, 60)
	s := i.launch(t, "sender")
	i.drained(t)
	i.wantClean(t, 60)
	if err := s.stop(t); err != nil {
		t.Error(err)
	}
	i.bulk(t, 60)
	i.execute(t, markBeyond, 7)
	r := i.verify(t)
	if r.Missing != 5 || len(r.Examples.Missing) != 5 || r.Hidden != 0 || r.Unsent != 55 ||
		r.NotJudged != (auditor.NotJudged{}) {
		t.Errorf("got %+v, want 5 missing and 55 unsent", r)
	}
}

// TestVerify_LogLost puts an older copy in place of the broker's logs. Six partitions lose their
// tail, the other six everything. Verify counts what is gone as missing. The sender, which has
// nothing to send, halts all partitions.
func TestVerify_LogLost(t *testing.T) {
	t.Parallel()
	const before, after = 6, 60
	i := installOnOwnBroker(t)
	i.launch(t, "sender")
	i.bulk(t, before)
	i.drained(t)
	i.broker.Keep(t)
	i.bulk(t, after)
	i.drained(t)
	i.wantClean(t, before+after)

	i.broker.PutBack(t)
	r := i.verify(t)
	if r.Missing != after || r.Records != before || r.Duplicates+r.Unexpected+r.Hidden+r.Unsent != 0 {
		t.Errorf("got %+v, want %d missing and %d records", r, after, before)
	}
	eventually(t, "the idle sender halts all partitions", func() error {
		const halted = `select count(*) from topic_partitions where state = 'halted'
			and reason like '%acknowledged records are lost'`
		if n := i.count(t, halted); n != 12 {
			return fmt.Errorf("got %d halted", n)
		}
		return nil
	})
	if r := i.verify(t); r.Missing != after {
		t.Errorf("got %+v, want %d missing as before", r, after)
	}
}

// TestVerify_OpenTransaction sends in locked delivery while a transaction of another producer is
// open. Consumers do not see these payments, and verify counts them as hidden until the
// transaction ends.
func TestVerify_OpenTransaction(t *testing.T) {
	t.Parallel()
	i := installLocked(t)
	abort := i.openTransaction(t, 0)
	i.bulk(t, 24) // 2 for each partition.
	i.launch(t, "sender")
	eventually(t, "all are marked sent", func() error {
		if i.count(t, `select count(*) from payments where status = 'created'`) > 0 {
			return errNotYet
		}
		return nil
	})
	if r := i.verify(t); r.Hidden != 2 || r.Contradicts() || r.Records != 22 {
		t.Errorf("got %+v, want 2 hidden and 22 records", r)
	}
	cmd := command(t, i.env, "verify")
	out, _ := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), "\n    hidden          2  ") {
		t.Errorf("verify: got exit code %d, want 3 and 2 hidden:\n%s", code, out)
	}
	abort()
	i.wantClean(t, 24) // verify waits for a late marker.
}

// openTransaction begins a transaction of another producer in a partition, and returns a function
// that aborts it.
func (i *installation) openTransaction(t *testing.T, partition int32) (abort func()) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(i.env["PAYLATCH_KAFKA_BROKERS"]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID("other-"+i.topic), kgo.TransactionTimeout(10*time.Minute), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	record := &kgo.Record{Topic: i.topic, Partition: partition, Key: []byte("other")}
	if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := client.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Error(err)
		}
	}
}

// TestVerify_UnderLoad runs verify several times while two replicas take and send payments. It
// never finds a fault.
func TestVerify_UnderLoad(t *testing.T) {
	t.Parallel()
	const rounds = 8
	i := install(t)
	first, second := i.launch(t, "serve"), i.launch(t, "serve")
	stop := load(t, newClient(t, i.key, first.api, second.api), 8)
	var before, inFlight int64
	for n := range rounds {
		i.sentSince(t, 50)
		r := i.verify(t)
		if !r.OK() || r.NotJudged.DeletedRecords != 0 {
			t.Errorf("round %d: got %+v, want no fault", n, r)
		}
		if r.Records <= before {
			t.Errorf("round %d: got %d records, want more than %d: nothing was sent", n, r.Records, before)
		}
		before, inFlight = r.Records, inFlight+r.NotJudged.InFlight
	}
	accepted := stop()
	i.drained(t)
	i.wantClean(t, int64(len(accepted)))
	t.Logf("%d records were in flight in %d rounds", inFlight, rounds)
}
