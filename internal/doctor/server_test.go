package doctor

import (
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// TestServer judges servers that the tests cannot start, such as one with a standby.
func TestServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		judge  func(store.Server) outcome
		server store.Server
		want   Verdict
	}{
		"StandbyNone":     {standby, store.Server{}, VerdictNo},
		"StandbyAway":     {standby, store.Server{StandbyNames: "*"}, VerdictNo},
		"StandbyHidden":   {standby, store.Server{StandbyNames: "*", Synchronous: -1}, VerdictUnknown},
		"StandbyThere":    {standby, store.Server{StandbyNames: "*", Synchronous: 1}, VerdictYes},
		"ClearRemote":     {encryption, store.Server{}, VerdictNo},
		"ClearLocal":      {encryption, store.Server{Local: true}, VerdictYes},
		"TLS":             {encryption, store.Server{TLS: "TLSv1.3"}, VerdictYes},
		"NotVerified":     {verified, store.Server{TLS: "TLSv1.3"}, VerdictNo},
		"Verified":        {verified, store.Server{TLS: "TLSv1.3", Verified: true}, VerdictYes},
		"ClockWrong":      {clock, store.Server{ClockAhead: -time.Minute}, VerdictNo},
		"ClockImprecise":  {clock, store.Server{ClockAhead: 6 * time.Second, ClockError: 2 * time.Second}, VerdictYes},
		"ClockWrongAhead": {clock, store.Server{ClockAhead: time.Minute}, VerdictNo},
	} {
		if got := c.judge(c.server); got.verdict != c.want || got.detail == "" {
			t.Errorf("%s: got %+v, want %s", name, got, c.want)
		}
	}
}

// TestRetention: only without a limit of time and bytes is every copy old enough.
func TestRetention(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		configs map[string]string
		want    Verdict
	}{
		"Unlimited": {map[string]string{"retention.ms": "-1", "retention.bytes": "-1"}, VerdictYes},
		"Week":      {map[string]string{"retention.ms": "604800000", "retention.bytes": "-1"}, VerdictUnknown},
		"Bytes":     {map[string]string{"retention.ms": "-1", "retention.bytes": "1000"}, VerdictUnknown},
		"NotListed": {nil, VerdictUnknown},
	} {
		if got := retention(kafka.Topic{Configs: c.configs}); got.verdict != c.want {
			t.Errorf("%s: got %+v, want %s", name, got, c.want)
		}
	}
}

// TestBrokerChecks_Protection: TLS alone says nothing about who the client is.
func TestBrokerChecks_Protection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		installation       Installation
		tls, authenticated Verdict
	}{
		"Nothing": {Installation{}, VerdictNo, VerdictNo},
		"TLS":     {Installation{KafkaTLS: true, KafkaProtection: "TLS"}, VerdictYes, VerdictNo},
		"Certificate": {
			Installation{KafkaTLS: true, KafkaProtection: "TLS, client certificate"}, VerdictYes, VerdictYes,
		},
		"Password": {Installation{KafkaProtection: "SCRAM-SHA-512"}, VerdictNo, VerdictYes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checks := c.installation.brokerChecks()
			found := report(examine(t.Context(), checks[len(checks)-2:]))
			wantFinding(t, found, "kafka.tls", c.tls)
			wantFinding(t, found, "kafka.authentication", c.authenticated)
		})
	}
}
