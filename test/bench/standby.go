//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// standbyName is the name under which the receiver connects, and for which commits wait.
const standbyName = "bench_standby"

// measureStandby compares reads and replays while commits wait for a synchronous standby, so that
// each response is confirmed by a commit, with the same without one. The standby is a WAL receiver
// that acknowledges at once, without a network or a disk of its own: the line shows the cost of the
// barrier.
func measureStandby(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 6 * time.Second}, length{3, 2 * time.Second})
	stored := storedOf(true)
	i, service, err := b.serving(ctx, stored)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	stop, err := b.startReceiver(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.setStandby(context.WithoutCancel(ctx), ""), stop()) }()

	reads := order{APIKey: i.APIKey, Connections: connections, For: l.each, Reads: 1, Stored: stored}
	replays := order{APIKey: i.APIKey, Connections: connections, For: l.each, Creates: 1, Replays: true}
	first := replays
	first.For, first.Count = 0, people/2 // Each key once: from now on they are replays.
	if _, err := b.load(ctx, service, first); err != nil {
		return nil, err
	}
	with := func(standby string, o order) func(context.Context) (result, error) {
		return func(ctx context.Context) (result, error) {
			if err := b.setStandby(ctx, standby); err != nil {
				return result{}, err
			}
			return b.load(ctx, service, o)
		}
	}
	turns, err := alternate(ctx, l.turns,
		contender{"status_standby", with(standbyName, reads)}, contender{"status_alone", with("", reads)},
		contender{"replay_standby", with(standbyName, replays)}, contender{"replay_alone", with("", replays)})
	if err != nil {
		return nil, err
	}
	lines := map[string]figures{}
	for _, what := range []string{"status", "replay"} {
		f := turns.figures(what+"_standby", what+"_alone", result.rate)
		for _, name := range []string{what + "_standby", what + "_alone"} {
			turns.perRequest(name, f.raw)
			turns.latencies(name, f.raw)
		}
		lines[what+"_standby"] = f
	}
	return lines, nil
}

// setStandby makes commits wait for the named standby, or for none, and returns when that holds.
func (b *bench) setStandby(ctx context.Context, name string) error {
	for _, sql := range []string{
		"alter system set synchronous_standby_names = '" + name + "'",
		"select pg_reload_conf()",
	} {
		if err := execute(ctx, b.installed.Postgres, sql); err != nil {
			return err
		}
	}
	want := "sync"
	if name == "" {
		want = "async"
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for {
		state, err := b.standbyState(ctx)
		if err != nil || state == want {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// standbyState is what the server takes the receiver for.
func (b *bench) standbyState(ctx context.Context) (state string, err error) {
	conn, err := pgx.Connect(ctx, b.installed.Postgres)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, `select sync_state from pg_stat_replication where application_name = $1`,
		standbyName).Scan(&state)
	return state, err
}

// Messages of streaming replication.
// Source: https://www.postgresql.org/docs/current/protocol-replication.html
const (
	walData       = 'w'
	keepalive     = 'k'
	standbyStatus = 'r'
)

// startReceiver connects a WAL receiver that acknowledges whatever it gets, until stop is called.
func (b *bench) startReceiver(ctx context.Context) (stop func() error, err error) {
	// The image lets nobody replicate from another host. The first statement is run in PGDATA.
	for _, sql := range []string{
		`copy (select 'host replication all all scram-sha-256') to program 'cat >> pg_hba.conf'`,
		`select pg_reload_conf()`,
	} {
		if err := execute(ctx, b.installed.Postgres, sql); err != nil {
			return nil, err
		}
	}
	config, err := pgconn.ParseConfig(b.installed.Postgres)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["replication"] = "true"
	config.RuntimeParams["application_name"] = standbyName
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	results, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	conn.Frontend().Send(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + string(results[0].Rows[0][2])})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	receiving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- receive(receiving, conn) }()
	return func() error {
		cancel()
		return <-ended
	}, nil
}

// receive acknowledges WAL until ctx ends.
func receive(ctx context.Context, conn *pgconn.PgConn) error {
	for {
		message, err := conn.ReceiveMessage(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("WAL receiver: %w", err)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			continue
		}
		end := uint64(0)
		switch data.Data[0] {
		case walData: // Its start, the server's end, the time; then the WAL itself.
			const header = 1 + 8 + 8 + 8
			end = binary.BigEndian.Uint64(data.Data[1:]) + uint64(len(data.Data)-header)
		case keepalive:
			end = binary.BigEndian.Uint64(data.Data[1:])
		default:
			continue
		}
		if err := acknowledge(conn, end); err != nil {
			return fmt.Errorf("WAL receiver: %w", err)
		}
	}
}

// acknowledge says that all WAL below end is written, flushed and applied.
func acknowledge(conn *pgconn.PgConn, end uint64) error {
	status := []byte{standbyStatus}
	for range 3 {
		status = binary.BigEndian.AppendUint64(status, end)
	}
	status = append(binary.BigEndian.AppendUint64(status, 0), 0) // No clock, no reply wanted.
	conn.Frontend().Send(&pgproto3.CopyData{Data: status})
	return conn.Frontend().Flush()
}
