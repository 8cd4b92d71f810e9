package integration

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/test/parts"
)

// verify runs `paylatch verify` and returns its report. The test fails if the exit code does not
// follow from the report.
func (i *installation) verify(t *testing.T) auditor.Report {
	t.Helper()
	cmd := command(t, i.env, "verify", "--json")
	out, err := cmd.Output()
	var report auditor.Report
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		t.Fatalf("verify: %v\n%s", errors.Join(err, jsonErr, stderrOf(err)), out)
	}
	want := 0
	switch {
	case report.Duplicates+report.Missing+report.Unexpected > 0:
		want = 1
	case report.Hidden > 0:
		want = 3
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("verify: got exit code %d, want %d after %+v", got, want, report)
	}
	t.Logf("verify: %+v", report)
	return report
}

func stderrOf(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return errors.New(string(exit.Stderr))
	}
	return nil
}

// wantClean fails the test unless verify finds each of n payments in the topic exactly once.
func (i *installation) wantClean(t *testing.T, n int64) {
	t.Helper()
	r := i.verify(t)
	if !r.OK() || r.Unsent != 0 || r.Payments != n || r.Records != n || r.NotJudged != (auditor.NotJudged{}) {
		t.Errorf("got %+v, want %d payments, each in the topic once", r, n)
	}
}

// insertBulk inserts payments of one sender account for each partition. Their ids are random UUIDs
// of version 8.
const insertBulk = `
with party as (insert into parties (tenant_id, party_id, name)
		select id, 'bulk', 'Bulk' from tenants where name = 'acme'
		on conflict on constraint parties_content_is_unique do nothing returning id),
	account as (insert into accounts (tenant_id, type, number)
		select id, 'bulk', 'bulk' from tenants where name = 'acme'
		on conflict on constraint accounts_content_is_unique do nothing returning id)
insert into payments (amount, originator_id, beneficiary_id, sender_id, receiver_id, id, tenant_id, partition, currency)
select 1, p.id, p.id, a.id, a.id,
	(overlay(overlay(gen_random_uuid()::text placing '8' from 15) placing '8' from 20))::uuid, t.id, n % 12, 'EUR'
from generate_series(1, $1) as n, tenants t,
	(select id from party union select id from parties where party_id = 'bulk' limit 1) as p,
	(select id from account union select id from accounts where type = 'bulk' limit 1) as a
where t.name = 'acme'`

// bulk inserts n payments in one statement.
func (i *installation) bulk(t *testing.T, n int) {
	t.Helper()
	i.execute(t, insertBulk, n)
}

// sentBy returns how many payments a process has sent.
func sentBy(t *testing.T, p *process) int {
	t.Helper()
	for line := range strings.Lines(get(t, p.admin+"/metrics")) {
		if value, ok := strings.CutPrefix(line, "paylatch_payments_sent_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
	}
	t.Fatal("got no metric of sent payments, want one")
	return 0
}

// TestDrain_ManySenders drains 50,000 payments with four senders. Concurrently, each sender is
// stopped cleanly and started again, and new payments arrive over HTTP. Each payment is in the
// topic exactly once, and each sender has sent some.
func TestDrain_ManySenders(t *testing.T) {
	t.Parallel()
	const backlog = 50_000
	i := install(t)
	i.bulk(t, backlog)
	api := i.launch(t, "api")
	// Small batches make the drain outlast the restarts.
	small := map[string]string{"PAYLATCH_BATCH_MAX": "100"}
	senders := make([]*process, 4)
	for n := range senders {
		senders[n] = i.launch(t, "sender", small)
	}
	stop := load(t, newClient(t, i.key, api.api), 4)
	for n := range senders {
		eventually(t, "sender "+strconv.Itoa(n)+" sends", func() error {
			if sentBy(t, senders[n]) == 0 {
				return errNotYet
			}
			return nil
		})
		if err := senders[n].stop(t); err != nil {
			t.Error(err)
		}
		senders[n] = i.launch(t, "sender", small)
	}
	for n, p := range senders {
		eventually(t, "sender "+strconv.Itoa(n)+", started again, sends", func() error {
			if sentBy(t, p) == 0 {
				return errNotYet
			}
			return nil
		})
	}
	accepted := stop()
	i.drained(t)
	for n, p := range senders {
		t.Logf("sender %d, since it was started again: %d payments", n, sentBy(t, p))
	}
	i.wantClean(t, int64(backlog+len(accepted)))
}

// TestDatabase_Restarted restarts PostgreSQL under load, once cleanly and once as by a crash.
// Nothing is lost, and nothing is repeated.
func TestDatabase_Restarted(t *testing.T) {
	t.Parallel()
	server := parts.OwnPostgres(t)
	i := installIn(t, server.URL, parts.Kafka(t), nil)
	service := i.launch(t, "serve")
	second := i.launch(t, "sender")
	stop := load(t, newClient(t, i.key, service.api), 4)
	for _, immediate := range []bool{false, true} {
		before := i.count(t, `select count(*) from payments where status = 'sent'`)
		server.Restart(t, immediate)
		eventually(t, "payments are taken and sent again", func() error {
			conn, err := parts.Connect(t.Context(), server.URL)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
			var n int
			if err := conn.QueryRow(t.Context(),
				`select count(*) from payments where status = 'sent'`).Scan(&n); err != nil {
				return err
			}
			if n < before+200 {
				return errNotYet
			}
			return nil
		})
	}
	accepted := stop()
	i.drained(t)
	r := i.verify(t)
	if r.Missing != 0 || r.Unexpected != 0 || r.Hidden != 0 || r.Payments < int64(len(accepted)) {
		t.Errorf("got %+v, want no fault and at least the %d accepted payments", r, len(accepted))
	}
	if r.Duplicates > 0 {
		t.Errorf("got %d duplicates, want 0", r.Duplicates)
	}
	t.Logf("%d repeated by two restarts; senders %d and %d", r.Duplicates, sentBy(t, service), sentBy(t, second))
}

// TestBroker_Restarted restarts the broker under load. The second time it is away for 20 s. Nothing
// is lost.
func TestBroker_Restarted(t *testing.T) {
	t.Parallel()
	i := installOnOwnBroker(t)
	service := i.launch(t, "serve")
	stop := load(t, newClient(t, i.key, service.api), 4)
	for _, outage := range []time.Duration{0, 20 * time.Second} {
		before := i.count(t, `select count(*) from payments where status = 'sent'`)
		i.broker.Stop(t)
		time.Sleep(outage)
		i.broker.Start(t)
		eventually(t, "payments are sent again", func() error {
			if i.count(t, `select count(*) from payments where status = 'sent'`) < before+200 {
				return errNotYet
			}
			return nil
		})
	}
	accepted := stop()
	i.drained(t)
	r := i.verify(t)
	if r.Missing != 0 || r.Unexpected != 0 || r.Hidden != 0 || r.Payments < int64(len(accepted)) ||
		r.Duplicates > 0 && i.repeatsNothing() {
		t.Errorf("got %+v, want no fault and at least the %d accepted payments", r, len(accepted))
	}
}
