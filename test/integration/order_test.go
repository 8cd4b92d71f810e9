package integration

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
)

// posted is a line of the client's journal: a payment with a 202. The times are of one clock of the
// client.
type posted struct {
	id string
	// account is that of the sender.
	account string
	// sent is a time before its first POST was sent.
	sent time.Duration
	// received is a time after its first 202 was received.
	received time.Duration
}

// disorder checks the promised order. Of one sender account, a payment whose 202 was received
// before another's POST was sent precedes that one in the same partition. Concurrent requests have
// no order.
//
// It returns how many payments had such predecessors, and a fault for each payment that does not
// follow all of them.
func disorder(journal []posted, places map[string]client.Position) (judged int, faults []string) {
	accounts := map[string][]posted{}
	for _, p := range journal {
		accounts[p.account] = append(accounts[p.account], p)
	}
	for _, sent := range accounts {
		byResponse := slices.Clone(sent)
		slices.SortFunc(sent, func(a, b posted) int { return cmp.Compare(a.sent, b.sent) })
		slices.SortFunc(byResponse, func(a, b posted) int { return cmp.Compare(a.received, b.received) })
		// last is the payment with the highest offset of those received before p was sent.
		var last *posted
		for _, p := range sent {
			for ; len(byResponse) > 0 && byResponse[0].received < p.sent; byResponse = byResponse[1:] {
				if last == nil || places[byResponse[0].id].Offset > places[last.id].Offset {
					last = &byResponse[0]
				}
			}
			if last == nil {
				continue
			}
			judged++
			a, b := places[last.id], places[p.id]
			if a.Partition != b.Partition || a.Offset >= b.Offset {
				faults = append(faults, fmt.Sprintf("%s at %d/%d was posted after the response for %s at %d/%d",
					p.id, b.Partition, b.Offset, last.id, a.Partition, a.Offset))
			}
		}
	}
	return judged, faults
}

// TestOrder puts three replicas under load. One after the other is killed with -9, and the database
// sessions of all senders are ended. The payments of each sender account are in the topic in the
// order that the client can observe. Some accounts have one client that posts sequentially, others
// have two at once.
func TestOrder(t *testing.T) {
	t.Parallel()
	const rounds, alone, shared, each = 6, 6, 3, 300
	i := install(t)
	var accounts []string // One entry for each client.
	for n := range alone + shared {
		accounts = append(accounts, fmt.Sprint(n))
		if n >= alone {
			accounts = append(accounts, fmt.Sprint(n))
		}
	}
	replicas := []*process{i.launch(t, "serve"), i.launch(t, "serve"), i.launch(t, "serve")}
	// through is a client of all running replicas.
	var through atomic.Pointer[client.Client]
	connect := func() {
		var servers []string
		for _, p := range replicas {
			servers = append(servers, p.api)
		}
		through.Store(newClient(t, i.key, servers...))
	}
	connect()
	stop := keepJournal(t, &through, accounts)
	progress := func() {
		t.Helper()
		before := i.count(t, `select count(*) from payments where status = 'sent'`)
		eventually(t, "payments are sent", func() error {
			if i.count(t, `select count(*) from payments where status = 'sent'`) < before+each {
				return errNotYet
			}
			return nil
		})
	}
	for n := range rounds {
		progress()
		replicas[n%len(replicas)].kill()
		progress()
		if ended := i.count(t, endSenders); ended == 0 {
			t.Error("got no session ended, want some: nothing was tested")
		}
		replicas[n%len(replicas)] = i.launch(t, "serve")
		connect()
	}
	progress()
	journal := stop()
	i.drained(t)
	i.wantDuplicates(t, int64(len(journal)), 0)

	places := i.places(t)
	judged, faults := disorder(journal, places)
	if len(faults) > 0 || judged < rounds*each {
		t.Errorf("got %d of %d judged payments out of order, want none and more judged:\n%v", len(faults), judged,
			faults[:min(len(faults), 10)])
	}
	t.Logf("%d payments, %d judged, %d kills", len(journal), judged, rounds)
	wantSeen(t, journal, places)
}

// endSenders ends the database sessions of senders that own partitions.
const endSenders = `select count(pg_terminate_backend(pid)) from pg_stat_activity
	where application_name = 'paylatch sender' and datname = current_database()`

// keepJournal posts payments sequentially with one client for each account until it is stopped.
func keepJournal(t *testing.T, through *atomic.Pointer[client.Client], accounts []string) (stop func() []posted) {
	t.Helper()
	var (
		over    atomic.Bool
		mu      sync.Mutex
		journal []posted
		all     sync.WaitGroup
		began   = time.Now()
	)
	for _, account := range accounts {
		all.Go(func() {
			for !over.Load() {
				sent := time.Since(began)
				created, err := through.Load().Create(context.WithoutCancel(t.Context()), newKey(), sample(account))
				received := time.Since(began)
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				mu.Lock()
				journal = append(journal, posted{created.ID, account, sent, received})
				mu.Unlock()
			}
		})
	}
	return func() []posted {
		over.Store(true)
		all.Wait()
		return journal
	}
}

// places returns the position of each payment in the topic, as a read_committed consumer sees it.
func (i *installation) places(t *testing.T) map[string]client.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := kafka.NewCluster(brokers.At(i.env["PAYLATCH_KAFKA_BROKERS"]))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ranges, err := cluster.Ranges(ctx, i.topic)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]client.Position{}
	for n, r := range ranges {
		p := int32(n)
		if err := cluster.Read(ctx, i.topic, p, r.Start, r.StableEnd, func(one kafka.Record) error {
			places[string(one.Key)] = client.Position{Topic: i.topic, Partition: p, Offset: one.Offset}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return places
}

// wantSeen is the control of disorder. For each account, the same records with two of them swapped,
// and with one in another partition, must be out of order.
func wantSeen(t *testing.T, journal []posted, places map[string]client.Position) {
	t.Helper()
	last := map[string]posted{}
	swapped := map[string]bool{}
	for _, b := range journal { // In the order of their responses.
		a, there := last[b.account]
		last[b.account] = b
		if !there || a.received >= b.sent || swapped[b.account] {
			continue
		}
		swapped[b.account] = true
		at, bt := places[a.id], places[b.id]
		places[a.id], places[b.id] = bt, at
		if _, faults := disorder(journal, places); len(faults) == 0 {
			t.Errorf("got no fault, want one for %s and %s swapped", a.id, b.id)
		}
		places[a.id], places[b.id] = at, client.Position{
			Topic: bt.Topic, Partition: (bt.Partition + 1) % 12,
			Offset: bt.Offset,
		}
		if _, faults := disorder(journal, places); len(faults) == 0 {
			t.Errorf("got no fault, want one for %s in another partition", b.id)
		}
		places[b.id] = bt
	}
	if len(swapped) < 2 {
		t.Errorf("got %d accounts with two payments in order, want at least 2: nothing was tested", len(swapped))
	}
}

// TestOrder_Judge checks what disorder accepts as in order, and what it does not.
func TestOrder_Judge(t *testing.T) {
	t.Parallel()
	first := posted{id: "1", account: "a", sent: 1, received: 3}
	for name, row := range map[string]struct {
		second posted
		// at is the position of the second. The first is at 0/10.
		at    client.Position
		right bool
	}{
		"Behind":         {posted{"2", "a", 4, 5}, client.Position{Offset: 11}, true},
		"Before":         {posted{"2", "a", 4, 5}, client.Position{Offset: 9}, false},
		"OtherPartition": {posted{"2", "a", 4, 5}, client.Position{Partition: 1, Offset: 11}, false},
		"AtOnce":         {posted{"2", "a", 2, 5}, client.Position{Offset: 9}, true},
		"SameInstant":    {posted{"2", "a", 3, 5}, client.Position{Offset: 9}, true},
		"OtherAccount":   {posted{"2", "b", 4, 5}, client.Position{Offset: 9}, true},
	} {
		places := map[string]client.Position{"1": {Offset: 10}, "2": row.at}
		for _, journal := range [][]posted{{first, row.second}, {row.second, first}} {
			if _, faults := disorder(journal, places); (len(faults) == 0) != row.right {
				t.Errorf("%s: got faults %v, want none: %t", name, faults, row.right)
			}
		}
	}
}
