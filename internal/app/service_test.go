package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/buildinfo"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

// patience bounds every wait.
const patience = time.Minute

// running is a service in the test's process.
type running struct {
	*app.Service
	log  *logBuffer
	stop func() error
}

// logBuffer keeps a log. Safe for concurrent use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// events returns the lines with one of the messages.
func (l *logBuffer) events(messages ...string) (events []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		event := map[string]any{}
		if json.Unmarshal([]byte(line), &event) != nil {
			continue
		}
		for _, m := range messages {
			if event["msg"] == m {
				events = append(events, event)
			}
		}
	}
	return events
}

func start(t *testing.T, c app.Config) *running {
	t.Helper()
	c.AdminListen, c.DatabaseConnections, c.ShutdownTimeout = "127.0.0.1:0", 4, app.ShutdownTimeout(20*time.Second)
	r := &running{log: &logBuffer{}}
	var err error
	r.Service, err = app.New(t.Context(), c, app.NewLogger(r.log, 0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// get returns the status and the body of a path of the admin listener.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.AdminURL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// eventually repeats ok until it returns an empty string, and otherwise what is missing.
func eventually(t *testing.T, ok func() (missing string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		missing := ok()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", missing)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func senderSettings() *app.SenderSettings {
	return &app.SenderSettings{
		DeliverySettings: app.DeliverySettings{Delivery: app.Delivery(store.DeliveryFenced)},
		Source:           "/paylatch",
		BatchMax:         100,
	}
}

// TestService_Sender: a sender alone is live at once. It is ready once there is a topic, and it
// says why it is not ready before. It stops with `stopping` and `stopped`, and logs durations as
// seconds.
func TestService_Sender(t *testing.T) {
	t.Parallel()
	database, broker := app.DatabaseURL(parts.Postgres(t)), parts.Kafka(t)
	r := start(t, app.Config{
		DatabaseSettings: app.DatabaseSettings{DatabaseURL: database},
		KafkaSettings:    app.KafkaSettings{KafkaBrokers: app.Brokers{broker}}, Sender: senderSettings(),
	})
	eventually(t, func() string {
		status, body := r.get(t, "/readyz")
		if status == http.StatusServiceUnavailable && strings.Contains(body, store.ErrNoTopic.Error()) {
			return ""
		}
		return fmt.Sprintf("got %d and %s, want 503 and that there is no topic", status, body)
	})
	if status, body := r.get(t, "/livez"); status != http.StatusOK || !strings.Contains(body, `"live"`) {
		t.Errorf("livez: got %d and %s, want 200", status, body)
	}
	setUp(t, database, broker)
	eventually(t, func() string {
		if status, body := r.get(t, "/readyz"); status != http.StatusOK {
			return fmt.Sprintf("got %d and %s, want 200", status, body)
		}
		return ""
	})
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	events := r.log.events("stopping", "stopped")
	if len(events) != 2 || events[0]["msg"] != "stopping" || events[1]["msg"] != "stopped" {
		t.Fatalf("got %v, want stopping and stopped", events)
	}
	if events[0]["timeout"] != 20.0 {
		t.Errorf("got the timeout %v, want 20, in seconds", events[0]["timeout"])
	}
	if took, ok := events[1]["took"].(float64); !ok || took <= 0 || took > patience.Seconds() {
		t.Errorf("got took %v, want seconds", events[1]["took"])
	}
}

func setUp(t *testing.T, database app.DatabaseURL, broker string) {
	t.Helper()
	topic := operator.Topic{Name: parts.Topic(), Partitions: 2, Replication: 1, Delivery: store.DeliveryFenced}
	brokers := app.KafkaSettings{KafkaBrokers: app.Brokers{broker}}
	settings := app.DatabaseSettings{DatabaseURL: database}
	err := app.WithClients(t.Context(), settings, brokers, func(s *store.Store, cluster *kafka.Cluster) error {
		found, err := operator.EnsureTopic(t.Context(), s, cluster, topic)
		if err == nil && !found.Created {
			t.Error("the topic was there before")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestService_API: the admin listener of a process with an API has the API's readiness, and says
// which build runs.
func TestService_API(t *testing.T) {
	t.Parallel()
	const away = "postgres://paylatch:x@127.0.0.1:1/paylatch?sslmode=disable"
	r := start(t, app.Config{
		DatabaseSettings: app.DatabaseSettings{DatabaseURL: away},
		API:              &app.APISettings{Listen: "127.0.0.1:0"},
	})
	status, body := r.get(t, "/readyz")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "database_unavailable") {
		t.Errorf("readyz: got %d and %s, want 503 and the reason", status, body)
	}
	if status, _ := r.get(t, "/livez"); status != http.StatusOK {
		t.Errorf("livez: got %d, want 200", status)
	}
	info := buildinfo.Read()
	want := fmt.Sprintf("paylatch_build_info{commit=%q,go=%q,version=%q} 1", info.Commit, info.Go, info.Version)
	if _, metrics := r.get(t, "/metrics"); !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s", want)
	}
}

// TestService_WrongDatabase: the cause is logged, and logged again as long as it lasts, without the
// password.
func TestService_WrongDatabase(t *testing.T) {
	t.Parallel()
	right := parts.Postgres(t)
	for name, row := range map[string]struct {
		change func(*url.URL)
		want   string
	}{
		"password": {
			func(u *url.URL) { u.User = url.UserPassword("paylatch", "sesame") },
			"password authentication failed",
		},
		"database": {func(u *url.URL) { u.Path = "/nosuchdatabase" }, `database "nosuchdatabase" does not exist`},
		"host":     {func(u *url.URL) { u.Host = "no-such-host.invalid:5432" }, "no-such-host.invalid"},
		"port":     {func(u *url.URL) { u.Host = "127.0.0.1:1" }, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong, err := url.Parse(right)
			if err != nil {
				t.Fatal(err)
			}
			row.change(wrong)
			r := start(t, app.Config{
				DatabaseSettings: app.DatabaseSettings{DatabaseURL: app.DatabaseURL(wrong.String())},
				API:              &app.APISettings{Listen: "127.0.0.1:0"},
			})
			eventually(t, func() string {
				events := r.log.events("waiting for database")
				if len(events) >= 3 {
					return ""
				}
				return fmt.Sprintf("got %v, want three lines about the database", events)
			})
			last := 0.0
			for _, e := range r.log.events("waiting for database") {
				cause, retry := fmt.Sprint(e["error"]), e["retry_in"].(float64)
				if !strings.Contains(cause, row.want) || strings.Contains(cause, "sesame") || retry <= last {
					t.Errorf("got %v, want %q, and a longer wait than %v s", e, row.want, last)
				}
				last = retry
			}
		})
	}
}
