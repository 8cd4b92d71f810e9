// Package secure tests how Kafka clients connect: by TLS, with certificates, and by SASL.
package secure

import (
	"context"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

// waitTimeout bounds every wait of these tests. No test asserts how long a wait took.
const waitTimeout = time.Minute

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), waitTimeout)
	t.Cleanup(cancel)
	return ctx
}

// open returns how clients with the settings connect.
func open(t testing.TB, s brokers.Settings) *brokers.Access {
	t.Helper()
	if faults := s.Faults(); len(faults) > 0 {
		t.Fatalf("got faults %q, want none", faults)
	}
	access, err := s.KafkaAccess()
	if err != nil {
		t.Fatal(err)
	}
	return access
}
