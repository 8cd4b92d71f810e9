package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/test/harness"
)

// password is that of a database that lives for minutes, on the loopback interface.
const password = "chaos"

// postgres is the database, in a container.
type postgres struct {
	container string
	port      int
	pool      *pgxpool.Pool // Past all links.
}

func databaseURL(user string, port int) string {
	return fmt.Sprintf("postgres://%s:%s@%s/paylatch?sslmode=disable&connect_timeout=5",
		user, password, harness.Address(port))
}

func newPostgres(ctx context.Context, run string, port int) (*postgres, error) {
	p := &postgres{container: run + "-postgres", port: port}
	_, err := harness.Docker(ctx, "run", "--detach", "--name", p.container,
		"--publish", harness.Address(port)+":5432", "--shm-size", "256m",
		"--env", "POSTGRES_USER=paylatch", "--env", "POSTGRES_PASSWORD="+password, "--env", "POSTGRES_DB=paylatch",
		"postgres:17", "-c", "max_connections=400")
	if err != nil {
		return p, err
	}
	p.pool, err = pgxpool.New(ctx, databaseURL("paylatch", port))
	if err != nil {
		return p, err
	}
	return p, p.ready(ctx)
}

// ready waits until the database responds.
func (p *postgres) ready(ctx context.Context) error {
	return harness.Eventually(ctx, time.Minute, "PostgreSQL responds", p.pool.Ping)
}

// crash stops PostgreSQL as `pg_ctl -m immediate` does, and starts it after down.
func (p *postgres) crash(ctx context.Context, down time.Duration) error {
	if _, err := harness.Docker(ctx, "kill", "--signal", "QUIT", p.container); err != nil {
		return err
	}
	if _, err := harness.Docker(ctx, "wait", p.container); err != nil {
		return err
	}
	harness.Pause(ctx, down)
	if err := harness.Start(ctx, p.container); err != nil {
		return err
	}
	return p.ready(ctx)
}

// roleOf returns a replica's database user, by which its sessions are recognized.
func roleOf(slot int) string { return fmt.Sprintf("replica%d", slot) }

// addRoles creates the replicas' users, with the rights of the tables' owner.
func (p *postgres) addRoles(ctx context.Context, slots int) error {
	for slot := range slots {
		role := fmt.Sprintf(`create role %s login password '%s' in role paylatch`, roleOf(slot), password)
		if _, err := p.pool.Exec(ctx, role); err != nil {
			return err
		}
	}
	return nil
}

// selectOwned uses the lock class of package store.
const selectOwned = `select l.objid::bigint, p.generation from pg_locks l
	join pg_stat_activity a using (pid) join topic_partitions p on p.partition = l.objid::bigint
	where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid::bigint = 1886413922
	and a.usename = $1`

// ownedBy returns the partitions that a replica owns, and their generations.
func (p *postgres) ownedBy(ctx context.Context, slot int) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rows, err := p.pool.Query(ctx, selectOwned, roleOf(slot))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	owned := map[int32]int64{}
	for rows.Next() {
		var partition, generation int64
		if err := rows.Scan(&partition, &generation); err != nil {
			return nil, err
		}
		owned[int32(partition)] = generation
	}
	return owned, rows.Err()
}

const terminateSessions = `select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1`

// endSessions ends all of a replica's sessions.
func (p *postgres) endSessions(ctx context.Context, slot int) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = p.pool.QueryRow(ctx, terminateSessions, roleOf(slot)).Scan(&n)
	return n, err
}

// selectTakenOver counts a partition that another replica owns. In fenced delivery the generation
// must also be higher.
const selectTakenOver = `select count(*) from pg_locks l
	join pg_stat_activity a using (pid) join topic_partitions p on p.partition = l.objid::bigint
	where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid::bigint = 1886413922
	and a.usename <> $1 and p.partition = $2 and (p.delivery = 'locked' or p.generation > $3)`

// takenOver counts the partitions that another replica has acquired.
func (p *postgres) takenOver(ctx context.Context, slot int, owned map[int32]int64) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for partition, generation := range owned {
		var one int
		if err := p.pool.QueryRow(ctx, selectTakenOver, roleOf(slot), partition, generation).Scan(&one); err != nil {
			return n, err
		}
		n += one
	}
	return n, nil
}
