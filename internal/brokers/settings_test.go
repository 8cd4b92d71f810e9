package brokers

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// parse returns settings from values as a command line gives them.
func parse(t *testing.T, change func(*Settings)) *Settings {
	t.Helper()
	s := &Settings{KafkaBrokers: Addresses{"kafka-1:9093"}}
	change(s)
	return s
}

// TestSettings_Faults: all faults are found together, and each names its setting.
func TestSettings_Faults(t *testing.T) {
	for _, name := range []string{"ACCESS_KEY_ID", "CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv("AWS_"+name, "")
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
	for name, row := range map[string]struct {
		change func(*Settings)
		want   []string
	}{
		"plain text": {func(*Settings) {}, nil},
		"files without TLS": {
			func(s *Settings) { s.KafkaTLSCA, s.KafkaTLSCert, s.KafkaTLSServerName = "ca", "cert", "kafka" },
			[]string{
				"PAYLATCH_KAFKA_TLS_CA): has no use", "PAYLATCH_KAFKA_TLS_CERT): has no use",
				"PAYLATCH_KAFKA_TLS_SERVER_NAME): has no use",
				"PAYLATCH_KAFKA_TLS_KEY): is required with --kafka-tls-cert",
			},
		},
		"key without certificate": {
			func(s *Settings) { s.KafkaTLS, s.KafkaTLSKey = "on", "key" },
			[]string{"PAYLATCH_KAFKA_TLS_CERT): is required with --kafka-tls-key"},
		},
		"files that are not there": {
			func(s *Settings) { s.KafkaTLS, s.KafkaTLSCA = "on", "/no/such/ca.pem" },
			[]string{"/no/such/ca.pem"},
		},
		"mechanism alone": {
			func(s *Settings) { s.KafkaSASLMechanism = Scram512 },
			[]string{
				"PAYLATCH_KAFKA_SASL_USERNAME): is required with --kafka-sasl-mechanism SCRAM-SHA-512",
				"PAYLATCH_KAFKA_SASL_PASSWORD): is required with --kafka-sasl-mechanism SCRAM-SHA-512",
			},
		},
		"user without mechanism": {
			func(s *Settings) { s.KafkaSASLUsername, s.KafkaSASLPassword = "u", "sesame" },
			[]string{"PAYLATCH_KAFKA_SASL_USERNAME): has no use", "PAYLATCH_KAFKA_SASL_PASSWORD): has no use"},
		},
		"PLAIN in plain text": {
			func(s *Settings) {
				s.KafkaSASLMechanism, s.KafkaSASLUsername, s.KafkaSASLPassword = Plain, "u", "sesame"
			},
			[]string{"kafka-1:9093 is another host, and PLAIN sends a secret as it is"},
		},
		"PLAIN on this machine": {
			func(s *Settings) {
				s.KafkaBrokers = Addresses{"localhost:9092", "127.0.0.1:9092", "[::1]:9092"}
				s.KafkaSASLMechanism, s.KafkaSASLUsername, s.KafkaSASLPassword = Plain, "u", "sesame"
			}, nil,
		},
		"SCRAM in plain text": {
			func(s *Settings) {
				s.KafkaSASLMechanism, s.KafkaSASLUsername, s.KafkaSASLPassword = Scram256, "u", "sesame"
			},
			nil,
		},
		"OAUTHBEARER alone": {
			func(s *Settings) { s.KafkaTLS, s.KafkaSASLMechanism, s.KafkaSASLUsername = "on", OAuthBearer, "u" },
			[]string{
				"PAYLATCH_KAFKA_SASL_USERNAME): has no use while --kafka-sasl-mechanism is OAUTHBEARER",
				"PAYLATCH_KAFKA_OAUTH_TOKEN_URL): is required", "PAYLATCH_KAFKA_OAUTH_CLIENT_ID): is required",
				"PAYLATCH_KAFKA_OAUTH_CLIENT_SECRET): is required",
			},
		},
		"AWS_MSK_IAM alone": {
			func(s *Settings) { s.KafkaSASLMechanism, s.KafkaSASLUsername = AWSMSKIAM, "u" },
			[]string{
				"kafka-1:9093 is another host, and AWS_MSK_IAM sends a secret", "no credentials of AWS",
				"PAYLATCH_KAFKA_SASL_USERNAME): has no use while --kafka-sasl-mechanism is AWS_MSK_IAM",
			},
		},
		"tokens for PLAIN": {
			func(s *Settings) {
				s.KafkaTLS, s.KafkaSASLMechanism, s.KafkaSASLUsername, s.KafkaSASLPassword = "on", Plain, "u", "sesame"
				s.KafkaOAuthScope, s.KafkaOAuthCA, s.KafkaOAuthExtensions = "kafka", "ca", Extensions{"a": "b"}
			},
			[]string{
				"PAYLATCH_KAFKA_OAUTH_CA): has no use while --kafka-sasl-mechanism is PLAIN",
				"PAYLATCH_KAFKA_OAUTH_SCOPE): has no use", "PAYLATCH_KAFKA_OAUTH_EXTENSIONS): has no use",
			},
		},
	} {
		faults := parse(t, row.change).Faults()
		all := strings.Join(faults, "\n")
		for _, want := range row.want {
			if !strings.Contains(all, want) {
				t.Errorf("%s: got %q, want %q", name, faults, want)
			}
		}
		if len(faults) != len(row.want) || strings.Contains(all, "sesame") {
			t.Errorf("%s: got %q, want %d faults without a secret", name, faults, len(row.want))
		}
	}
}

// TestValues: each type accepts what is right. A fault names the setting to use, and no secret.
func TestValues(t *testing.T) {
	for _, row := range []struct {
		setting encoding.TextUnmarshaler
		text    string
		want    string // In the fault; empty if there is none.
	}{
		{new(Addresses), "kafka-1:9092, kafka-2:9092", ""},
		{new(Addresses), "nowhere", `"nowhere" is no HOST:PORT`},
		{new(Addresses), "SASL_SSL://kafka-1:9093", "leave SASL_SSL:// out; PAYLATCH_KAFKA_TLS"},
		{new(Addresses), "u:sesame@kafka-1:9093", "PAYLATCH_KAFKA_SASL_PASSWORD"},
		{new(Addresses), "u:ses,ame@kafka-1:9093", "PAYLATCH_KAFKA_SASL_PASSWORD"},
		{new(Addresses), "SASL_SSL://u:sesame@kafka-1:9093", "PAYLATCH_KAFKA_SASL_PASSWORD"},
		{new(Switch), "on", ""},
		{new(Switch), "off", ""},
		{new(Switch), "true", "neither on nor off"},
		{new(Mechanism), "", ""},
		{new(Mechanism), "SCRAM-SHA-512", ""},
		{new(Mechanism), "GSSAPI", "is not one of PLAIN"},
		{new(TokenURL), "https://issuer.example/token", ""},
		{new(TokenURL), "http://127.0.0.1:8080/token", ""},
		{new(TokenURL), "http://issuer.example/token", "must be https"},
		{new(TokenURL), "https://u:sesame@issuer.example/token", "PAYLATCH_KAFKA_OAUTH_CLIENT_SECRET"},
		{new(TokenURL), "https://u:ses%ame@issuer.example/token", "is no URL"},
		{new(TokenURL), "issuer.example", "is no URL"},
		{new(Extensions), "logicalCluster=lkc-1,identityPoolId=pool-a1", ""},
		{new(Extensions), "auth=x", "is no NAME=VALUE"},
		{new(Extensions), "lkc-1", "is no NAME=VALUE"},
	} {
		err := row.setting.UnmarshalText([]byte(row.text))
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%T %q: got %v, want %q", row.setting, row.text, err, row.want)
		}
		if err != nil && (strings.Contains(err.Error(), "ses") || strings.Contains(err.Error(), "ame@")) {
			t.Errorf("%T: got %v, want no secret", row.setting, err)
		}
	}
}

// TestSettings_Masked: no form in which settings are printed shows a secret.
func TestSettings_Masked(t *testing.T) {
	s := parse(t, func(s *Settings) {
		s.KafkaTLS, s.KafkaSASLMechanism, s.KafkaSASLUsername, s.KafkaSASLPassword = "on", Plain, "user-1", "sesame"
		s.KafkaOAuthClientSecret = "sesame"
	})
	access, err := s.KafkaAccess()
	if err != nil {
		t.Fatal(err)
	}
	access.Login.Tokens = &Tokens{endpoint: TokenEndpoint{ClientSecret: secretfile.Of("sesame", secretfile.File{})}}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "settings", *s, "access", access)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "settings", *s, "access", access)
	for _, text := range []string{
		fmt.Sprint(*s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), string(encoded), log.String(),
		fmt.Sprintf("%v %+v %#v", access, access, access), fmt.Sprintf("%+v %#v", access.Login, *access.Login),
	} {
		if strings.Contains(text, "sesame") {
			t.Errorf("got %s, want no secret", text)
		}
	}
	if !strings.Contains(fmt.Sprintf("%+v", s), "user-1") { // The control.
		t.Errorf("got %+v, want the user in it", s)
	}
}
