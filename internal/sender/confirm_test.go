package sender

import (
	"context"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// An owner sees a payment that only its primary has: the wait for the synchronous standby was
// cancelled. It must not be emitted before the standby has it. After a failover the new primary
// would not know it, and later payments of the account would come after it in the log.
func TestConfirm_OnlyThePrimaryHasIt(t *testing.T) {
	t.Parallel()
	for name, fenced := range map[string]bool{"Fenced": true, "Locked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := parts.OwnPostgres(t)
			if _, err := store.MigrateUp(bounded(t), server.URL, migrations.FS); err != nil {
				t.Fatal(err)
			}
			r := newRigAt(t, parts.Kafka(t), server.URL, 1, nil)
			var changes []func(*Config)
			if fenced {
				changes = append(changes, r.inFenced())
			}
			r.run(r.replica(changes...))
			first := r.create(0, 1)
			r.allSent()
			r.standby("nobody")
			const waiting = `select count(*) from pg_stat_activity where wait_event = 'SyncRep'
				and query like '%pg_logical_emit_message%'`
			before := r.count(waiting)
			second := r.createUnconfirmed()
			until(t, "the owner waits for the standby", func() bool { return r.count(waiting) > before })
			r.wantInOrder(0, first)
			r.wantUnsent(0, 1)
			r.standby("")
			r.allSent()
			r.wantInOrder(0, first, []payment.Payment{second})
			r.verdict()
		})
	}
}

// standby makes commits wait for the named standby, or for none.
func (r *rig) standby(name string) {
	r.t.Helper()
	r.exec(`alter system set synchronous_standby_names = '` + name + `'`)
	r.exec(`select pg_reload_conf()`)
	another := r.open(r.url) // Its commits are not the sender's.
	until(r.t, "the setting holds", func() bool {
		ctx, cancel := context.WithTimeout(r.t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := another.Ready(ctx)
		return (err == nil) == (name == "")
	})
}

// createUnconfirmed stores a payment whose wait for the standby is cancelled: it is visible, and no
// standby has it.
func (r *rig) createUnconfirmed() payment.Payment {
	r.t.Helper()
	p := r.payment(0)
	ctx, cancel := context.WithCancel(bounded(r.t))
	created := make(chan struct{})
	go func() {
		defer close(created)
		_, _, _ = r.store.Create(ctx, p)
	}()
	defer func() {
		cancel()
		<-created
	}()
	until(r.t, "the payment is visible", func() bool {
		r.count(`select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'
			and query like 'insert into payments%'`)
		return r.count(`select count(*) from payments where status = 'created'`) == 1
	})
	return p
}
