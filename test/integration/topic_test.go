package integration

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/test/parts"
)

// secrets are the names and numbers in the payments of the tests. No log may contain them.
var secrets = []string{"Yolanda Quist", "Xavier Zork", "765543322771", "DE89370400440532013000"}

// sample returns a payment. account determines its sender account, and so its partition.
func sample(account string) client.Request {
	return client.Request{
		Amount: 25687, Currency: "USD",
		Originator:  client.Party{ID: "567", Name: secrets[0]},
		Beneficiary: client.Party{ID: "123", Name: secrets[1]},
		Sender:      client.Account{Type: "checking", Number: secrets[2] + account},
		Receiver:    client.Account{Type: "iban", Number: secrets[3]},
		Reference:   "INV-7",
	}
}

func newClient(t *testing.T, key string, servers ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Servers: servers, APIKey: key, RetryFor: time.Minute, Connections: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// create creates one payment with a new key.
func create(t *testing.T, c *client.Client) client.Result {
	t.Helper()
	created, err := c.Create(t.Context(), uuid.Must(uuid.NewV7()).String(), sample(string(rune('0'+rand.N(10)))))
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// records reads the topic to its end as a read_committed consumer.
func (i *installation) records(t *testing.T) []kafka.Record {
	t.Helper()
	return readTopic(t, i.env["PAYLATCH_KAFKA_BROKERS"], i.topic)
}

// readTopic reads by offsets. An embedded broker that was restarted may end in a transaction
// without a marker, for which a consumer would wait forever.
func readTopic(t *testing.T, broker, topic string) []kafka.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := kafka.NewCluster(brokers.At(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ranges, err := cluster.Ranges(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	var records []kafka.Record
	for p, r := range ranges {
		if err := cluster.Read(ctx, topic, int32(p), r.Start, r.StableEnd, func(one kafka.Record) error {
			records = append(records, one)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// count returns the number that a query returns.
func (i *installation) count(t *testing.T, sql string) int {
	t.Helper()
	var n int
	i.onDatabase(t, func(conn *pgx.Conn) error { return conn.QueryRow(t.Context(), sql).Scan(&n) })
	return n
}

// execute executes one or more SQL statements.
func (i *installation) execute(t *testing.T, sql string, args ...any) {
	t.Helper()
	i.onDatabase(t, func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), sql, args...)
		return err
	})
}

// tamper changes what the triggers of the schema protect; see parts.Tamper.
func (i *installation) tamper(t *testing.T, sql string, args ...any) {
	t.Helper()
	i.onDatabase(t, func(conn *pgx.Conn) error {
		_, err := parts.Tamper(t.Context(), conn, sql, args...)
		return err
	})
}

// onDatabase calls work with a new connection.
func (i *installation) onDatabase(t *testing.T, work func(*pgx.Conn) error) {
	t.Helper()
	conn, err := parts.Connect(t.Context(), i.env["PAYLATCH_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if err := work(conn); err != nil {
		t.Fatal(err)
	}
}

// drained waits until no payment is unsent, and no transaction is open.
func (i *installation) drained(t *testing.T) {
	t.Helper()
	eventually(t, "all payments are sent", func() error {
		if i.count(t, `select count(*) from payments where status = 'created'`) > 0 {
			return errNotYet
		}
		return nil
	})
	i.stable(t)
}

// stable waits until no transaction in the topic is open. Kafka responds to a commit before its
// marker is in the log, and without the marker consumers and the auditor do not see the records. A
// transaction without a commit is aborted by its timeout.
func (i *installation) stable(t *testing.T) {
	t.Helper()
	access := i.access
	if access == nil {
		access = brokers.At(i.env["PAYLATCH_KAFKA_BROKERS"])
	}
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	eventually(t, "no transaction is open", func() error {
		ranges, err := cluster.Ranges(t.Context(), i.topic)
		if err != nil || slices.ContainsFunc(ranges, func(r kafka.Range) bool { return r.StableEnd != r.End }) {
			return errors.Join(err, errNotYet)
		}
		return nil
	})
}

// ids returns the ids of all payments in the table.
func (i *installation) ids(t *testing.T) []string {
	t.Helper()
	return i.idsWhere(t, `true`)
}

// idsWhere returns the ids of the payments for which an SQL condition is true.
func (i *installation) idsWhere(t *testing.T, condition string) []string {
	t.Helper()
	var ids []string
	i.onDatabase(t, func(conn *pgx.Conn) error {
		rows, err := conn.Query(t.Context(), `select id::text from payments where `+condition)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return ids
}
