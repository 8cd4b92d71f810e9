package loadtest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/journal/journaltest"
)

// BenchmarkCost measures what a request costs the load generator, which shares its machine with the
// service. cpu-µs/op is that of the whole process (getrusage): the client, a server that does as
// little as possible, and the kernel's work for both ends of the connection.
//
//	go test ./internal/loadtest -run '^$' -bench Cost -benchmem
func BenchmarkCost(b *testing.B) {
	const id = "0198c5e4-0000-8000-8000-000000000000"
	body := `{"id":"` + id + `","status":"created","final":false,"amount":25687,"currency":"USD",` +
		`"originator":{"id":"C-00567","name":"Emma Parker"},` +
		`"beneficiary":{"id":"C-00123","name":"Müller Hoffmann"},"sender":{"type":"checking","number":"765543322"},` +
		`"receiver":{"type":"iban","number":"DE89370400440532013000"},"reference":"INV-000007",` +
		`"created_at":"2026-11-23T12:00:00.123456Z"}`
	server := cannedServer(b, func(method string) (int, string) {
		if method == http.MethodPost {
			return http.StatusAccepted, body
		}
		return http.StatusOK, body
	})
	c, err := client.New(client.Config{Servers: []string{server}, APIKey: journaltest.APIKey, Connections: 64})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	newLoad := func(b *testing.B, kept *journal.Journal) *load {
		l := &load{inFlight: b.Context(), cfg: Config{Journal: kept}}
		l.tenants = []*tenant{{client: c, name: c.KeyFingerprint()}}
		l.tally = newTally(1, newTimeline(time.Now(), time.Minute))
		l.tenants[0].remember(id)
		return l
	}
	for _, what := range []string{"Create", "CreateWithJournal", "Status"} {
		b.Run(what, func(b *testing.B) {
			var kept *journal.Journal
			if what == "CreateWithJournal" {
				kept, err = journal.Open(filepath.Join(b.TempDir(), "journal"))
				if err != nil {
					b.Fatal(err)
				}
				defer kept.Close()
			}
			l := newLoad(b, kept)
			before := cpu(b)
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				random := rand.New(rand.NewPCG(1, 2))
				for pb.Next() {
					if what == "Status" {
						_, err = l.status(l.tenants[0], 0, time.Now(), random)
					} else {
						err = l.create(l.tenants[0], 0, time.Now(), random)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cannedServer starts a server that gives all requests of a method the same response, with as
// little work as possible.
func cannedServer(tb testing.TB, respond func(method string) (int, string)) (address string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	responses := map[byte]string{}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		status, body := respond(method)
		responses[method[0]] = fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"+
			"Date: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s",
			status, http.StatusText(status), len(body), body)
	}
	var connections sync.WaitGroup
	tb.Cleanup(func() {
		_ = listener.Close()
		connections.Wait()
	})
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer conn.Close()
				respondAll(conn, responses)
			})
		}
	})
	return "http://" + listener.Addr().String()
}

func respondAll(conn net.Conn, responses map[byte]string) {
	r := bufio.NewReader(conn)
	for {
		first, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		method, length := first[0], 0
		for line := first; len(line) > 2; {
			line, err = r.ReadSlice('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(string(line), "Content-Length: ") {
				_, _ = fmt.Sscanf(string(line), "Content-Length: %d", &length)
			}
		}
		if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
			return
		}
		if _, err := io.WriteString(conn, responses[method]); err != nil {
			return
		}
	}
}
