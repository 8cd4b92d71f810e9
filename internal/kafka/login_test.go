package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/secretfile"
)

// TestLocked_SilentLogin: a broker that takes connections and does not let anyone log in gets each
// connection closed. kafka-go alone would keep them all open, since it has no deadline for a login.
func TestLocked_SilentLogin(t *testing.T) {
	t.Parallel()
	broker, ended := silentLogin(t)
	access := brokers.At(broker)
	access.Login = &brokers.Login{
		Mechanism: brokers.Scram512, Username: "paylatch", Password: secretfile.Of("sesame", secretfile.File{}),
	}
	l := NewLocked(access, "payments", 100*time.Millisecond)
	defer l.Close()
	if _, err := l.Publish(bounded(t), 0, samples(t, 1)); err == nil {
		t.Error("got no error, want one")
	}
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end of the connection", err)
		}
	case <-bounded(t).Done():
		t.Error("the connection is still open")
	}
}

// silentLogin is a broker that responds to requests for its versions only. ended gets why its first
// connection ended.
func silentLogin(t *testing.T) (address string, ended <-chan error) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	ends := make(chan error, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				err := onlyVersions(conn)
				select {
				case ends <- err:
				default: // Not the first one.
				}
			}()
		}
	}()
	return listener.Addr().String(), ends
}

// onlyVersions returns the error that ends the connection.
func onlyVersions(conn net.Conn) error {
	for {
		var head struct {
			Size         int32
			Key, Version int16
			Correlation  int32
		}
		if err := binary.Read(conn, binary.BigEndian, &head); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(head.Size)-8); err != nil {
			return err
		}
		if head.Key != int16(kmsg.ApiVersions) {
			continue
		}
		response := kmsg.NewPtrApiVersionsResponse()
		for _, key := range []kmsg.Key{kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.Metadata} {
			one := kmsg.ApiVersionsResponseApiKey{ApiKey: int16(key), MaxVersion: 1}
			response.ApiKeys = append(response.ApiKeys, one)
		}
		body := response.AppendTo(binary.BigEndian.AppendUint32(nil, uint32(head.Correlation)))
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
			return err
		}
	}
}
