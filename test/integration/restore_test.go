package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/client"
)

// The tests of restore put PostgreSQL back to an earlier copy, while the topic stays as it is. Only
// the log knows what became of the payments after the copy.

const (
	// restoreEarly is the number of payments that are sent before the copy.
	restoreEarly = 15
	// restoreLate is the number of payments that are emitted after the copy.
	restoreLate = 40
)

// taken is a payment with the key, the body and the response of its POST.
type taken struct {
	key      string
	body     []byte
	response string
	client.Payment
}

// copied is the time of the copy that is restored.
type copied int

const (
	// beforeCreation is a copy without the rows of the late payments.
	beforeCreation copied = iota
	// beforeMark is a copy with these rows, as `created`.
	beforeMark
)

// TestRestore_Fenced restores a copy. The takeover puts every payment of the log into the table.
// Each is `sent`, at its old position and with its old content, and its key is known again. New
// payments follow it, and nothing is emitted twice.
func TestRestore_Fenced(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]copied{"CopyBeforeCreation": beforeCreation, "CopyBeforeMark": beforeMark} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			early, late, seqs := i.emitAndRestore(t, at)
			service := i.launch(t, "serve")
			c := newClient(t, i.key, service.api)
			all := append(early, late...)
			for _, p := range all {
				i.wantAsBefore(t, c, p)
			}
			if i.count(t, selectSeqs) != seqs {
				t.Error("got other seqs, want those from before the restore")
			}
			for _, p := range all {
				p.wantReplay(t, service.api, i.key)
			}
			restored := i.count(t, `select max(seq) from payments`)
			for range restoreLate {
				create(t, c)
			}
			if n := i.count(t, fmt.Sprintf(`select count(*) from payments where seq > %d`,
				restored)); n != restoreLate {
				t.Errorf("got %d new payments with a seq above the restored ones, want %d", n, restoreLate)
			}
			i.drained(t)
			i.wantDuplicates(t, int64(len(all)+restoreLate), 0)
		})
	}
}

// TestRestore_RetriedFirst restores a copy from before the payments were created. Clients retry
// half of them before any sender has taken over. Those keys are not known yet, so the payments are
// taken as new ones with the same ids. The takeover finds them in the log, marks them with their
// positions, and puts the others back.
func TestRestore_RetriedFirst(t *testing.T) {
	t.Parallel()
	i := install(t)
	_, late, _ := i.emitAndRestore(t, beforeCreation)
	retried, lost := late[:restoreLate/2], late[restoreLate/2:]
	api := i.launch(t, "api")
	i.retryLost(t, api.api, retried)
	i.launch(t, "sender")
	i.drained(t)
	c := newClient(t, i.key, api.api)
	for _, p := range lost {
		i.wantAsBefore(t, c, p)
		p.wantReplay(t, api.api, i.key)
	}
	for _, p := range retried {
		now, err := c.Get(t.Context(), p.ID)
		if err != nil || !now.Sent() || now.Position == nil || *now.Position != *p.Position {
			t.Errorf("payment %s: got status %s, position %v, error %v, want sent at %v", p.ID, now.Status,
				now.Position, err, p.Position)
		}
		p.wantReplayOf(t, api.api, i.key, p.ID)
	}
	i.wantDuplicates(t, restoreEarly+restoreLate, 0)
}

// TestRestore_Locked is the control of the two tests above. Locked delivery reads no tail, so after
// the same restore every late payment is emitted again, which verify sees.
func TestRestore_Locked(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]copied{"CopyBeforeCreation": beforeCreation, "CopyBeforeMark": beforeMark} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := installLocked(t)
			_, late, _ := i.emitAndRestore(t, at)
			if at == beforeCreation {
				if r := i.verify(t); r.Unexpected != restoreLate {
					t.Errorf("got %+v, want %d unexpected records", r, restoreLate)
				}
				i.retryLost(t, i.launch(t, "api").api, late)
			}
			i.launch(t, "sender")
			i.drained(t)
			i.wantDuplicates(t, restoreEarly+restoreLate, restoreLate)
		})
	}
}

// TestRestore_Live restores a copy while two replicas serve and send, and are not stopped, as when
// a managed database is restored under the same name. They detect it by themselves, and the outcome
// is that of a restart.
func TestRestore_Live(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]copied{"CopyBeforeCreation": beforeCreation, "CopyBeforeMark": beforeMark} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			early, late, first, restore := i.emit(t, at)
			second := i.launch(t, "serve")
			seqs := i.count(t, selectSeqs)
			restore()
			c := newClient(t, i.key, first.api)
			all := append(early, late...)
			for _, p := range all {
				i.wantAsBefore(t, c, p)
			}
			if i.count(t, selectSeqs) != seqs {
				t.Error("got other seqs, want those from before the restore")
			}
			for _, p := range all {
				p.wantReplay(t, first.api, i.key)
				p.wantReplay(t, second.api, i.key)
			}
			if n := recovered(t, first) + recovered(t, second); n != restoreLate {
				t.Errorf("takeovers recovered: got %d payments, want %d", n, restoreLate)
			}
			c = newClient(t, i.key, first.api, second.api)
			for range restoreLate {
				create(t, c)
			}
			i.drained(t)
			i.wantDuplicates(t, int64(len(all)+restoreLate), 0)
		})
	}
}

// recovered returns how many payments the takeovers of a process have found in the log and marked
// or put back.
func recovered(t *testing.T, p *process) (n int) {
	t.Helper()
	for line := range strings.Lines(p.stderr.String()) {
		var log struct {
			Msg             string
			Found, Restored int
		}
		if err := json.Unmarshal([]byte(line), &log); err == nil && log.Msg == "partition acquired" {
			n += log.Found + log.Restored
		}
	}
	return n
}

// emitAndRestore emits all payments, and restores the copy. No process runs when it returns. The
// payments and seqs are those from before the restore.
func (i *installation) emitAndRestore(t *testing.T, at copied) (early, late []taken, seqs int) {
	t.Helper()
	early, late, service, restore := i.emit(t, at)
	seqs = i.count(t, selectSeqs)
	end(t, service)
	restore()
	if n := i.count(t, `select count(*) from payments where status = 'sent'`); n != restoreEarly {
		t.Fatalf("after the restore: got %d payments sent, want %d: nothing is tested", n, restoreEarly)
	}
	return early, late, seqs
}

// emit emits all payments. The returned service still runs. restore puts the copy in place of the
// database.
func (i *installation) emit(t *testing.T, at copied) (early, late []taken, service *process, restore func()) {
	t.Helper()
	service = i.launch(t, "serve")
	early = i.take(t, service.api, restoreEarly, "early")
	i.drained(t)
	end(t, service)
	if at == beforeMark {
		service = i.launch(t, "api")
		late = i.take(t, service.api, restoreLate, "late")
		end(t, service)
	}
	restore = i.copyDatabase(t)
	service = i.launch(t, "serve")
	if at == beforeCreation {
		late = i.take(t, service.api, restoreLate, "late")
	}
	i.drained(t)
	i.wantDuplicates(t, restoreEarly+restoreLate, 0)
	c := newClient(t, i.key, service.api)
	for _, list := range [][]taken{early, late} {
		for n := range list {
			var err error
			list[n].Payment, err = c.Get(t.Context(), list[n].ID)
			if err != nil || !list[n].Sent() {
				t.Fatalf("payment %s: got status %s and error %v, want sent", list[n].ID, list[n].Status, err)
			}
		}
	}
	return early, late, service, restore
}

// selectSeqs returns a digest of the seq of every payment.
const selectSeqs = `select ('x' || substr(md5(string_agg(id::text || seq, ',' order by id)), 1, 8))::bit(32)::bigint
	from payments`

// take creates payments. Their parties and accounts belong to the batch, so a restore loses them,
// too.
func (i *installation) take(t *testing.T, api string, n int, batch string) []taken {
	t.Helper()
	all := make([]taken, n)
	for k := range all {
		p := sample(fmt.Sprintf("%s%d", batch, k%7))
		p.Amount, p.Reference, p.Originator.ID = int64(1000+k), fmt.Sprintf("INV-%d", k), batch
		if k%2 == 0 {
			p.Reference = ""
		}
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		all[k] = taken{key: newKey(), body: body}
		status, _, response := post(t, api, i.key, all[k].key, body)
		if status != http.StatusAccepted {
			t.Fatalf("got status %d, want 202: %s", status, response)
		}
		all[k].response = response
		if err := json.Unmarshal([]byte(response), &all[k].Payment); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// wantAsBefore waits until the payment is sent, and compares it with its old state. Only the time
// of its mark may differ.
func (i *installation) wantAsBefore(t *testing.T, c *client.Client, p taken) {
	t.Helper()
	var now client.Payment
	eventually(t, "payment "+p.ID+" is sent again", func() (err error) {
		now, err = c.Get(t.Context(), p.ID)
		if err == nil && !now.Sent() {
			err = errNotYet
		}
		return err
	})
	if now.SentAt.IsZero() {
		t.Errorf("payment %s: got no sent_at, want one", p.ID)
	}
	now.SentAt = p.SentAt
	want, got := asJSON(t, p.Payment), asJSON(t, now)
	if got != want {
		t.Errorf("after the restore: got the payment\n%s, want\n%s", got, want)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantReplay retries the POST of the payment, and expects the original response as a replay.
func (p taken) wantReplay(t *testing.T, api, apiKey string) {
	t.Helper()
	if response := p.wantReplayOf(t, api, apiKey, p.ID); response != p.response {
		t.Errorf("replay: got\n%s, want the original\n%s", response, p.response)
	}
}

// wantReplayOf retries the POST of the payment, and expects a replay of the payment id.
func (p taken) wantReplayOf(t *testing.T, api, apiKey, id string) string {
	t.Helper()
	status, header, response := post(t, api, apiKey, p.key, p.body)
	if status != http.StatusAccepted || header.Get("Idempotent-Replayed") != "true" ||
		header.Get("Location") != "/payments/"+id {
		t.Errorf("retry: got status %d with %v, want a replay: %s", status, header, response)
	}
	return response
}

// retryLost retries the POSTs of lost payments. They are taken as new ones, with their old ids.
func (i *installation) retryLost(t *testing.T, api string, lost []taken) {
	t.Helper()
	for _, p := range lost {
		status, header, response := post(t, api, i.key, p.key, p.body)
		if status != http.StatusAccepted || header.Get("Idempotent-Replayed") != "" ||
			header.Get("Location") != "/payments/"+p.ID {
			t.Errorf("retry of a lost payment: got status %d with %v, want it taken with its id: %s", status, header,
				response)
		}
	}
}

// end stops a process cleanly.
func end(t *testing.T, p *process) {
	t.Helper()
	if err := p.stop(t); err != nil {
		t.Error(err)
	}
}

// copyDatabase copies the database of the installation, which no process uses. restore puts the
// copy in its place.
func (i *installation) copyDatabase(t *testing.T) (restore func()) {
	t.Helper()
	server, err := pgx.ParseConfig(i.env["PAYLATCH_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	name := pgx.Identifier{server.Database}.Sanitize()
	kept := pgx.Identifier{server.Database + "_kept"}.Sanitize()
	server.Database = "postgres"
	execute := func(ctx context.Context, statements ...string) {
		t.Helper()
		conn, err := pgx.ConnectConfig(ctx, server)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	execute(t.Context(), `create database `+kept+` template `+name)
	t.Cleanup(func() { execute(context.WithoutCancel(t.Context()), `drop database if exists `+kept+` with (force)`) })
	return func() {
		execute(t.Context(), `drop database `+name+` with (force)`, `alter database `+kept+` rename to `+name)
	}
}
