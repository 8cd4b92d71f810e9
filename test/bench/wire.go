//go:build linux

package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// requests makes the bytes of requests: all of them are there from the start, and only key, amount
// and reference are written into them.
type requests struct {
	creates []template
	next    int
	query   []byte
	stored  int64
	mixed   bool
	stamped bool
	v4      bool // Keys are UUIDv4 instead of UUIDv7.
	replays bool // Each template has one key, amount and reference, so that all creates but the first are replays.
	random  *rand.Rand
}

// template is a create between two of the people, and where in it key, amount and reference begin.
type template struct {
	text                   []byte
	key, amount, reference int
}

const (
	keyGap    = "00000000-0000-7000-8000-000000000000"
	amountGap = "100000"
	stampGap  = "1000000000000000000"
	numberGap = "10000000"
)

func newRequests(apiKey string, stored int64, stamped bool, random *rand.Rand) *requests {
	r := &requests{stored: stored, stamped: stamped, random: random}
	for n := range people / 2 {
		r.creates = append(r.creates, newTemplate(apiKey, n, stamped))
	}
	r.query = fmt.Appendf(nil, "GET /payments/%s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n",
		keyGap, apiKey)
	return r
}

func newTemplate(apiKey string, n int, stamped bool) template {
	reference := numberGap
	if stamped {
		reference = stampGap
	}
	originator, originatorName := party(n)
	beneficiary, beneficiaryName := party(n + people/2)
	senderType, sender := account(n)
	receiverType, receiver := account(n + people/2)
	body := fmt.Sprintf(`{"amount":%s,"currency":"EUR","originator":{"id":"%s","name":"%s"},`+
		`"beneficiary":{"id":"%s","name":"%s"},`+
		`"sender":{"type":"%s","number":"%s"},"receiver":{"type":"%s","number":"%s"},"reference":"INV-%s"}`,
		amountGap, originator, originatorName, beneficiary, beneficiaryName, senderType, sender, receiverType,
		receiver, reference)
	text := fmt.Appendf(nil, "POST /payments HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s",
		apiKey, keyGap, len(body), body)
	return template{
		text, bytes.Index(text, []byte(keyGap)),
		bytes.Index(text, []byte(`"amount":`)) + len(`"amount":`), bytes.Index(text, []byte(`"INV-`)) + len(`"INV-`),
	}
}

// create returns the next create, for a request that should be sent at the given time. The bytes
// are good until the template comes round again.
func (r *requests) create(at time.Time) []byte {
	t := &r.creates[r.next]
	r.next = (r.next + 1) % len(r.creates)
	if r.replays {
		putDigits(t.text[t.key+len(keyGap)-len(numberGap):t.key+len(keyGap)], int64(10_000_000+r.next))
		return t.text
	}
	r.putKey(t.text[t.key:])
	putDigits(t.text[t.amount:t.amount+len(amountGap)], 100_000+r.random.Int64N(900_000))
	if r.stamped {
		putDigits(t.text[t.reference:t.reference+len(stampGap)], at.UnixNano())
	} else {
		putDigits(t.text[t.reference:t.reference+len(numberGap)], 10_000_000+r.random.Int64N(90_000_000))
	}
	return t.text
}

// read returns the query for a random one of the stored payments.
func (r *requests) read() []byte {
	if r.stored > 0 {
		id := storedID
		if r.mixed {
			id = mixedID
		}
		copy(r.query[len("GET /payments/"):], id(1+r.random.Int64N(r.stored)))
	}
	return r.query
}

// putKey writes a new UUIDv7, which the API guide recommends, or a UUIDv4.
func (r *requests) putKey(to []byte) {
	var id [16]byte
	millis := uint64(time.Now().UnixMilli())
	high, low := millis<<16|0x7000|r.random.Uint64()&0x0fff, r.random.Uint64()&^(uint64(3)<<62)|uint64(2)<<62
	if r.v4 {
		high = r.random.Uint64()&^0xf000 | 0x4000
	}
	for n := range 8 {
		id[n], id[8+n] = byte(high>>(56-8*n)), byte(low>>(56-8*n))
	}
	for _, part := range [][3]int{{0, 4, 0}, {4, 6, 9}, {6, 8, 14}, {8, 10, 19}, {10, 16, 24}} {
		hex.Encode(to[part[2]:], id[part[0]:part[1]])
	}
}

// putDigits writes a number that has just as many digits.
func putDigits(to []byte, n int64) {
	var text [20]byte
	copy(to, strconv.AppendInt(text[:0], n, 10))
}

// connect opens a TCP connection without delay and without blocking.
func connect(address string) (int, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return 0, fmt.Errorf("connect to %s: %w", address, err)
	}
	return fd, errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.SetNonblock(fd, true))
}

// reply is what has been read of a response.
type reply struct {
	buffer [8 << 10]byte
	n      int
	status int
}

func (r *reply) reset()       { r.n = 0 }
func (r *reply) text() string { return string(r.buffer[:r.n]) }

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// readFrom reads what is there, and reports whether the response is complete.
func (r *reply) readFrom(fd int) (whole bool, err error) {
	n, err := unix.Read(fd, r.buffer[r.n:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read a response: %w", err)
	case n == 0:
		return false, fmt.Errorf("the server hung up: %w", io.ErrUnexpectedEOF)
	}
	r.n += n
	head := bytes.Index(r.buffer[:r.n], headEnd)
	if head < 0 {
		return false, r.hasRoom()
	}
	const statusAt = len("HTTP/1.1 ")
	r.status, err = strconv.Atoi(string(r.buffer[statusAt : statusAt+3]))
	if err != nil {
		return false, fmt.Errorf("no HTTP: %.200q", r.text())
	}
	at := bytes.Index(r.buffer[:head], contentLength)
	if at < 0 {
		return false, fmt.Errorf("a response without Content-Length: %.500q", r.text())
	}
	length := 0
	for _, c := range r.buffer[at+len(contentLength) : head] {
		if c < '0' || c > '9' {
			break
		}
		length = 10*length + int(c-'0')
	}
	if r.n < head+len(headEnd)+length {
		return false, r.hasRoom()
	}
	return true, nil
}

func (r *reply) hasRoom() error {
	if r.n == len(r.buffer) {
		return fmt.Errorf("a response of more than %d bytes", len(r.buffer))
	}
	return nil
}
