package app

import (
	"encoding"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// TestSettings: what a setting accepts. A wrong source would let every batch fail, and a rate that
// is rounded to 0 would be no limit at all.
func TestSettings(t *testing.T) {
	for _, row := range []struct {
		setting encoding.TextUnmarshaler
		right   []string
		wrong   []string
	}{
		{
			new(Source),
			[]string{"/paylatch", "https://payments.example/eu", "urn:x:y"},
			[]string{"", "%", "/" + strings.Repeat("x", 8<<10)},
		},
		{new(Rate), []string{"0", "0.5", "100000"}, []string{"-1", "0.001", "100001", "NaN", "Inf", "fast", ""}},
		{new(InFlight), []string{"0", "512"}, []string{"-1", "1.5", "", "1000001"}},
		{new(DrainDelay), []string{"0", "0s", "5s", "10m"}, []string{"10m1s", "-1s", "5", ""}},
		{new(ShutdownTimeout), []string{"1s", "10m"}, []string{"999ms", "11m", "soon"}},
		{new(Address), []string{"127.0.0.1:0", ":8080", "[::1]:65535"}, []string{"8080", ":x", "h:65536", ""}},
		{new(Brokers), []string{"", "a:1", "a:1, b:2"}, []string{"nowhere", "a:1,", "a:1,b"}},
		{new(Topic), []string{"payments", "a.b-c_D"}, []string{"", ".", "..", "a b", strings.Repeat("x", 250)}},
		{new(Partitions), []string{"1", "1000"}, []string{"0", "1001", "x"}},
		{new(Replication), []string{"0", "3"}, []string{"-1", "101"}},
		{new(BatchMax), []string{"1", "10000"}, []string{"0", "10001"}},
		{new(Connections), []string{"1", "1000"}, []string{"0", "none"}},
		{new(Delivery), []string{"fenced", "locked"}, []string{"", "best effort"}},
		{new(LogLevel), []string{"debug", "info", "warn", "error"}, []string{"", "loud"}},
	} {
		for _, text := range row.right {
			if err := row.setting.UnmarshalText([]byte(text)); err != nil {
				t.Errorf("%T: %.40q is refused: %v", row.setting, text, err)
			}
		}
		for _, text := range row.wrong {
			if err := row.setting.UnmarshalText([]byte(text)); err == nil {
				t.Errorf("%T: %.40q is accepted", row.setting, text)
			}
		}
	}
}

// TestDatabaseURL_Reserved: a password with reserved characters is not shown, wherever it ends up.
func TestDatabaseURL_Reserved(t *testing.T) {
	for _, url := range []string{
		"postgres://u:12/sesame@db/p", "postgres://u:12?sesame@db/p", "postgres://u:12#sesame@db/p",
		"postgres://u:sesame/x@db/p", "postgres://u:%sesame@db/p", "postgres://u:se[same@db/p",
		"postgres://u:12?a=sesame@db/p", "postgres://u:1@2/sesame@db/p",
		"postgres://u:12/3#sesame@db:5432/p?sslmode=disable", "postgres://u:sesame@[broken",
	} {
		err := new(DatabaseURL).UnmarshalText([]byte(url))
		text := fmt.Sprint(err)
		if !strings.Contains(text, "percent-encode the password") || strings.Contains(text, "sesame") {
			t.Errorf("%s: got %v, want what to do, without the password", url, err)
		}
	}
	for _, url := range []string{
		"postgres://u:sesame@db:5432/p", "postgres://u%40x:se%2Fsame@db/p?sslmode=disable",
		"postgresql://db/p?user=u@server&password=se@same",
		"host=db user=u@server password=se/same@x dbname=p", "postgres://u:se@same@db/p", "postgres://u@a,b/p",
	} {
		if err := new(DatabaseURL).UnmarshalText([]byte(url)); err != nil {
			t.Errorf("%s is refused: %v", url, err)
		}
	}
}

// TestDatabaseURL_Masked: PostgreSQL accepts passwords in several places; none of them is shown.
func TestDatabaseURL_Masked(t *testing.T) {
	for _, url := range []string{
		"postgres://u:sesame@db:5432/p", "postgres://u@db/p?password=sesame", "host=db user=u password=sesame dbname=p",
		"postgres://u:sesame@[broken",
	} {
		u := DatabaseURL(url)
		masked, err := json.Marshal(u)
		if got := fmt.Sprintf("%v %s %q %#v %s", u, u, u, u, masked); err != nil || strings.Contains(got, "sesame") {
			t.Errorf("%s is shown as %s, %v", url, got, err)
		}
	}
	if got := DatabaseURL("postgres://u:sesame@db:5432/p").String(); got != "postgres://u:***@db:5432/p" {
		t.Errorf("got %s, want where the database is", got)
	}
}

// TestConfig_Log: the log shows the configuration without the password, and durations as seconds.
func TestConfig_Log(t *testing.T) {
	var log strings.Builder
	NewLogger(&log, 0).Info("starting", "took", 133*time.Microsecond, "config", Config{
		DatabaseSettings: DatabaseSettings{DatabaseURL: "postgres://u:sesame@db:5432/p"},
		ProcessSettings:  ProcessSettings{ShutdownTimeout: ShutdownTimeout(20 * time.Second)},
		API:              &APISettings{DrainDelay: DrainDelay(1500 * time.Millisecond)},
	})
	for _, want := range []string{
		`"database_sslmode":"prefer"`, `"took":0.000133`, `"shutdown_timeout":20`,
		`"drain_delay":1.5`, `"database_url":"postgres://u:***@db:5432/p"`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("got %s, want %s in it", log.String(), want)
		}
	}
	if strings.Contains(log.String(), "sesame") {
		t.Errorf("the password is logged: %s", log.String())
	}
}

// TestDefaults: bounds of several packages fit each other.
func TestDefaults(t *testing.T) {
	if api.TenantInFlightDefault > store.CreatesMax/2 { // One tenant alone cannot fill the intake of all.
		t.Errorf("one tenant may have %d creates under way, of %d for all", api.TenantInFlightDefault, store.CreatesMax)
	}
	if operator.InDoubtDefault != sender.BatchMaxDefault {
		t.Errorf("%d payments are in doubt by default, a batch has %d", operator.InDoubtDefault, sender.BatchMaxDefault)
	}
}
