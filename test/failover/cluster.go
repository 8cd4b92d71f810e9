package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/test/harness"
)

// cluster is a primary and its standby, which change their roles.
type cluster struct {
	nodes   [2]*node
	primary int // Index of the node that is the primary now.
}

func newCluster(run string, ports [2]int) *cluster {
	c := &cluster{}
	for i := range c.nodes {
		alias := string(rune('a' + i))
		c.nodes[i] = &node{
			container: run + "-postgres-" + alias, clients: run, replication: run + "-replication", alias: alias,
			port: ports[i],
		}
	}
	return c
}

func (c *cluster) leader() *node  { return c.nodes[c.primary] }
func (c *cluster) standby() *node { return c.nodes[1-c.primary] }

// Values of synchronous_standby_names.
const (
	anyStandby = "*"
	noStandby  = ""
)

// start starts the primary, and the standby as a copy of it.
func (c *cluster) start(ctx context.Context) error {
	p := c.leader()
	// An internal network never serves published ports: those stay with the clients' network.
	if _, err := harness.Docker(ctx, "network", "create", "--internal", p.replication); err != nil {
		return err
	}
	if err := p.create(ctx); err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	if _, err := harness.Docker(ctx, "exec", p.container, "sh", "-c",
		`echo 'host replication all all scram-sha-256' >> "$PGDATA/pg_hba.conf"`); err != nil {
		return err
	}
	if err := p.exec(ctx, `select pg_reload_conf()`); err != nil {
		return err
	}
	return c.rebuild(ctx, anyStandby)
}

// rebuild makes the other node a standby of the primary, and then has commits wait for it or not.
// Until then the primary keeps the setting that it has.
func (c *cluster) rebuild(ctx context.Context, names string) error {
	if c.leader().detached {
		if err := c.leader().attach(ctx); err != nil {
			return err
		}
	}
	if err := c.standby().copyFrom(ctx, c.leader()); err != nil {
		return err
	}
	if err := c.standby().start(ctx); err != nil {
		return err
	}
	return c.wait(ctx, names)
}

// wait has commits wait for the standby, or not.
func (c *cluster) wait(ctx context.Context, names string) error {
	if err := setStandbyNames(ctx, c.leader(), names); err != nil {
		return err
	}
	state := "sync"
	if names == noStandby {
		state = "async"
	}
	return c.leader().await(ctx, "has a standby that is "+state,
		fmt.Sprintf(`select exists (select from pg_stat_replication where state = 'streaming' and sync_state = '%s')`,
			state))
}

// number reads a timeline's hexadecimal digits.
func number(timeline string) uint64 {
	n, _ := strconv.ParseUint(timeline, 16, 32)
	return n
}

// setStandbyNames works on a standby, too, for the time after its promotion.
func setStandbyNames(ctx context.Context, n *node, names string) error {
	return n.exec(ctx, fmt.Sprintf(`alter system set synchronous_standby_names = '%s'`, names),
		`select pg_reload_conf()`)
}

// promote makes the standby the primary, frozen or not. Names is its synchronous_standby_names from
// its first moment on. It returns the proof: the timelines before and after.
func (c *cluster) promote(ctx context.Context, before, names string) (proof string, err error) {
	s := c.standby()
	if err := s.thaw(ctx); err != nil {
		return "", err
	}
	if err := setStandbyNames(ctx, s, names); err != nil {
		return "", err
	}
	if _, err := one[bool](ctx, s, `select pg_promote(wait => false)`); err != nil {
		return "", err
	}
	if err := s.await(ctx, "is promoted", `select not pg_is_in_recovery()`); err != nil {
		return "", err
	}
	c.primary = 1 - c.primary
	after, err := s.timeline(ctx)
	if err == nil && after == before {
		err = fmt.Errorf("the timeline is %s before and after", after)
	}
	return fmt.Sprintf("timeline %d to %d", number(before), number(after)), err
}

// stored is a row as it was stored once: a payment that is lost and stored again has another time.
type stored struct {
	ID        uuid.UUID
	CreatedAt time.Time
}

const selectStoredSince = `select id, created_at from payments where created_at >= $1`

// storedSince returns the rows that are visible on a node and were created since then.
func storedSince(ctx context.Context, n *node, since time.Time) (map[stored]bool, error) {
	all, err := query(ctx, n, func(row pgx.CollectableRow) (s stored, err error) {
		err = row.Scan((*[16]byte)(&s.ID), &s.CreatedAt)
		s.CreatedAt = s.CreatedAt.UTC()
		return s, err
	}, selectStoredSince, since)
	set := make(map[stored]bool, len(all))
	for _, s := range all {
		set[s] = true
	}
	return set, err
}

const (
	cancelWaits = `select count(pg_cancel_backend(pid)) from pg_stat_activity
		where wait_event = 'SyncRep' and usename ~ '^replica'`
	// The control: synchronous_commit is overruled in each transaction that inserts payments.
	commitLocally = `create function commit_locally() returns trigger language plpgsql as $$
		begin perform set_config('synchronous_commit', 'local', true); return null; end $$;
		create trigger commit_locally before insert on payments execute function commit_locally()`
	dropCommitLocally = `drop function commit_locally cascade`
)
