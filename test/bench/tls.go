//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// measureTLS compares creates over TLS with creates in clear. Connections are kept, as clients and
// balancers do, so the cost is that of encryption. The handshakes are before the time that is
// measured. Both have a generator that costs more than that of the other lines.
func measureTLS(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 10 * time.Second}, length{3, 4 * time.Second})
	i, inClear, err := b.serving(ctx, 100_000)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, inClear.end()) }()
	certificate, key, err := b.selfSigned()
	if err != nil {
		return nil, err
	}
	secured, err := b.startService(ctx, "api", i, "PAYLATCH_TLS_CERT="+certificate, "PAYLATCH_TLS_KEY="+key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, secured.end()) }()
	create := func(s *server, overTLS bool, each time.Duration) (result, error) {
		serverBefore := treeCPU(s.pid())
		r, err := do(ctx, "create", job{
			URL: s.address, APIKey: i.APIKey, Connections: connections, For: each, TLS: overTLS,
		})
		r.ServerCPU = treeCPU(s.pid()) - serverBefore
		return r, err
	}
	for _, s := range []*server{inClear, secured} { // Each party and account is known then, or most of them.
		if _, err := create(s, s == secured, l.each); err != nil {
			return nil, err
		}
	}
	contend := func(s *server) func(context.Context) (result, error) {
		return func(ctx context.Context) (result, error) {
			if err := i.checkpoint(ctx); err != nil {
				return result{}, err
			}
			return create(s, s == secured, l.each)
		}
	}
	turns, err := alternate(ctx, l.turns, contender{"tls", contend(secured)}, contender{"clear", contend(inClear)})
	if err != nil {
		return nil, err
	}
	f := turns.figures("tls", "clear", result.rate)
	for _, name := range []string{"tls", "clear"} {
		turns.perRequest(name, f.raw)
		turns.latencies(name, f.raw)
	}
	return map[string]figures{"create_tls_vs_plain": f}, nil
}

// createBlocking plays the role: each of the connections is a goroutine that sends a create when it
// has the response to the one before.
func createBlocking(ctx context.Context, j job, report func(any) error) error {
	conns := make([]net.Conn, j.Connections)
	for n := range conns {
		conn, err := dial(ctx, j.URL, j.TLS)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		conns[n] = conn
	}
	cpu, began := ownCPU(), time.Now()
	until := began.Add(j.For)
	var mu sync.Mutex
	var failed error
	all, done := histogram(), int64(0)
	var clients sync.WaitGroup
	for _, conn := range conns {
		clients.Go(func() {
			r := newRequests(j.APIKey, 0, false, mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64())))
			reader := bufio.NewReader(conn)
			for time.Now().Before(until) {
				took, err := createOnce(conn, reader, r)
				mu.Lock()
				failed = errors.Join(failed, err)
				_ = all.RecordValue(took.Microseconds())
				done++
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	clients.Wait()
	if failed != nil {
		return failed
	}
	return report(result{
		Done: done, Seconds: time.Since(began).Seconds(), ClientCPU: ownCPU() - cpu, All: percentiles(all),
	})
}

// dial opens a connection and, over TLS, ends the handshake. The server is not verified.
func dial(ctx context.Context, address string, overTLS bool) (net.Conn, error) {
	if !overTLS {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	return dialer.DialContext(ctx, "tcp", address)
}

func createOnce(conn net.Conn, reader *bufio.Reader, r *requests) (time.Duration, error) {
	at := time.Now()
	if err := conn.SetDeadline(at.Add(answerMax)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(r.create(at)); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return time.Since(at), err
}

// selfSigned writes a certificate and its key, an ECDSA one, as most are.
func (b *bench) selfSigned() (certificate, key string, err error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &own.PublicKey, own)
	if err != nil {
		return "", "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return "", "", err
	}
	certificate, key = filepath.Join(b.dir, "tls.pem"), filepath.Join(b.dir, "tls.key")
	return certificate, key, errors.Join(
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
