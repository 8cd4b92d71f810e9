package integration

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/paylatch/paylatch/client"
)

// TestGrow_UnderLoad grows the topic twice while two replicas take and send payments. Creates get
// 503 at most, which the client retries. Each payment is in the topic once. Between two growths the
// order is the one that the client can observe. The new partitions have payments, too.
func TestGrow_UnderLoad(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*testing.T) *installation{"Fenced": install, "Locked": installLocked} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			growUnderLoad(t, set(t))
		})
	}
}

func growUnderLoad(t *testing.T, i *installation) {
	first, second := i.launch(t, "serve"), i.launch(t, "serve")
	var through atomic.Pointer[client.Client]
	through.Store(newClient(t, i.key, first.api, second.api))
	var accounts []string
	for n := range 20 {
		accounts = append(accounts, fmt.Sprint(n))
	}
	stop := keepJournal(t, &through, accounts)
	grownTo := []int{13, 20}
	const backlog = 12_000
	for _, n := range grownTo {
		i.sentSince(t, 300)
		// The backlog makes the growth wait. Payments of the journal's accounts wait with it.
		i.bulk(t, backlog)
		printed := run(t, i.env, "partitions", "grow", fmt.Sprint(n))
		if !strings.Contains(printed, fmt.Sprintf("has %d partitions", n)) {
			t.Errorf("got the output %q, want %d partitions", printed, n)
		}
		t.Log(strings.TrimSpace(printed))
	}
	i.sentSince(t, 300)
	journal := stop()
	i.drained(t)
	i.wantClean(t, int64(len(journal)+len(grownTo)*backlog))
	if n := i.count(t, `select count(distinct partition) from payments where partition >= 12`); n < 2 {
		t.Errorf("got payments in %d of the new partitions, want at least 2", n)
	}

	// Within a partition the log has the order. Across two partitions, all payments of the account
	// in the old one were sent before the first one in the new one was taken.
	places := i.places(t)
	for n := range journal {
		journal[n].account += fmt.Sprint("/", places[journal[n].id].Partition)
	}
	if judged, faults := disorder(journal, places); len(faults) > 0 || judged < 900-len(accounts)*(len(grownTo)+1) {
		t.Errorf("got %d of %d judged payments out of order, want none and more judged:\n%v", len(faults), judged,
			faults[:min(len(faults), 10)])
	}
	if n := i.count(t, `select count(*) from (
		select created_at, partition, lag(partition) over earlier as was,
			max(sent_at) over (earlier rows between unbounded preceding and 1 preceding) as sent
		from payments join accounts on accounts.id = sender_id and type <> 'bulk'
		window earlier as (partition by sender_id order by seq)) as p
		where was <> partition and sent > created_at`); n > 0 {
		t.Errorf("got %d payments taken for another partition before an earlier one was sent, want 0", n)
	}
	if moved := i.count(t, `select count(*) from (select from payments
		group by sender_id having count(distinct partition) > 1) as accounts`); moved == 0 {
		t.Error("got no account that changed its partition, want some: nothing was tested")
	}
}

// TestGrow_Refused expects that a refusal has its reason, and changes nothing. Payments that cannot
// be sent, since no sender runs, prevent the growth, and are taken as before.
func TestGrow_Refused(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.bulk(t, 12)
	refused := func(want string, args ...string) {
		t.Helper()
		cmd := command(t, i.env, append([]string{"partitions", "grow"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("grow %v: got error %v, want %q:\n%s", args, err, want, out)
		}
	}
	refused("there are 12 partitions already", "12")
	refused("there are 12 partitions already", "3")
	refused("at most 1000", "1001")
	run(t, i.env, "partitions", "halt", "2", "--reason", "a test")
	refused("partition 2 is halted (by an operator: a test)", "13")
	run(t, i.env, "partitions", "resume", "2")
	refused("payments still wait to be sent", "13", "--drain-timeout", "1s")
	if n := i.count(t, `select count(*) from topic_partitions`); n != 12 {
		t.Errorf("got %d partitions, want 12", n)
	}
	create(t, newClient(t, i.key, i.launch(t, "serve").api))
	i.drained(t)
	i.wantClean(t, 13)
}

// TestGrow_Restored restores the database to a copy from before the topic grew. Senders do not
// start, since the topic has payments that this database cannot know. Growing again makes the
// partitions known, and the takeover puts the payments back.
func TestGrow_Restored(t *testing.T) {
	t.Parallel()
	i := install(t)
	run(t, i.env, "partitions", "grow", "24")
	service := i.launch(t, "serve")
	stop := load(t, newClient(t, i.key, service.api), 4)
	i.sentSince(t, 300)
	n := len(stop())
	i.drained(t)
	if err := service.stop(t); err != nil {
		t.Error(err)
	}
	i.tamper(t, `delete from payments`)
	i.execute(t, `delete from topic_partitions where partition >= 12`)
	i.execute(t, `update topic_partitions set next_offset = 0, generation = 0`)

	service = i.launch(t, "sender")
	eventually(t, "the sender waits", func() error {
		if !strings.Contains(service.stderr.String(), "run `paylatch partitions grow 24`") {
			return errNotYet
		}
		return nil
	})
	run(t, i.env, "partitions", "grow", "24")
	eventually(t, "all payments are back", func() error {
		if i.count(t, `select count(*) from payments where status = 'sent'`) != n {
			return errNotYet
		}
		return nil
	})
	i.stable(t)
	i.wantClean(t, int64(n))
}

// sentSince waits until n more payments are sent.
func (i *installation) sentSince(t *testing.T, more int) {
	t.Helper()
	const sent = `select count(*) from payments where status = 'sent'`
	before := i.count(t, sent)
	eventually(t, "payments are sent", func() error {
		if i.count(t, sent) < before+more {
			return errNotYet
		}
		return nil
	})
}
