package brokers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sasl/aws"
)

// credentialsOf returns the credentials in an environment.
func credentialsOf(env map[string]string) awsCredentials {
	return newAWSCredentials(func(name string) string { return env[name] })
}

// TestAWS_Agent: each login gets the present credentials of the agent, which wants to see a token
// from a file.
func TestAWS_Agent(t *testing.T) {
	path, logins := filepath.Join(t.TempDir(), "token"), 0
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		logins++
		if r.Header.Get("Authorization") != fmt.Sprintf("token-%d", logins) {
			http.Error(w, "sesame", http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"AKIA%d","SecretAccessKey":"sesame","Token":"session"}`, logins)
	}))
	defer agent.Close()
	c := credentialsOf(map[string]string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": path,
	})
	for n := 1; n <= 2; n++ {
		write(t, path, fmt.Appendf(nil, "token-%d\n", n))
		got, err := c.get(t.Context())
		want := aws.Auth{AccessKey: fmt.Sprintf("AKIA%d", n), SecretKey: "sesame", SessionToken: "session"}
		if err != nil || got.AccessKey != want.AccessKey || got.SecretKey != want.SecretKey ||
			got.SessionToken != want.SessionToken {
			t.Errorf("got %s, error %v; want %s", got.AccessKey, err, want.AccessKey)
		}
	}
	_, err := c.get(t.Context()) // The file still has the token before.
	if err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got error %v, want 401 without the response", err)
	}
}

// TestAWS_Refused: credentials are requested by TLS, or from an agent of AWS, or from this machine.
func TestAWS_Refused(t *testing.T) {
	for address, want := range map[string]string{
		"":                                   "no credentials of AWS",
		"http://192.0.2.1/":                  "must be https",
		"http://u:sesame@127.0.0.1/":         "is no URL",
		"http://169.254.170.23/v1":           "",
		"http://[fd00:ec2::23]/v1":           "",
		"https://credentials.example/v1":     "",
		"http://localhost:1/v1":              "",
		"http://169.254.170.2.example.com/x": "must be https",
	} {
		_, err := credentialsOf(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": address}).agent()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", address, err, want)
		}
	}
}

// TestAWS_Form: what is sent to the broker has the form that MSK documents, for the host that was
// dialed, and no secret. There is no such broker here to try it on.
// Source: https://github.com/aws/aws-msk-iam-auth#uriauthentication-payload
func TestAWS_Form(t *testing.T) {
	const host = "b-1.payments.abc123.c2.kafka.eu-west-1.amazonaws.com"
	login := Login{Mechanism: AWSMSKIAM, credentials: credentialsOf(map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "sesame", "AWS_SESSION_TOKEN": "session",
	})}
	m := login.mechanism()
	_, first, err := m.Authenticate(t.Context(), host+":9098")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(first, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"version": "2020_10_22", "host": host, "action": "kafka-cluster:Connect",
		"x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-signedheaders": "host", "x-amz-security-token": "session",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	scope := strings.Split(got["x-amz-credential"], "/")
	if len(scope) != 5 || scope[0] != "AKIA1" || scope[2] != "eu-west-1" || scope[3] != "kafka-cluster" {
		t.Errorf("got the scope %q, want AKIA1 in eu-west-1 for kafka-cluster", scope)
	}
	if m.Name() != "AWS_MSK_IAM" || len(got["x-amz-signature"]) != 64 || strings.Contains(string(first), "sesame") {
		t.Errorf("got %s %s, want a signature and no secret", m.Name(), first)
	}
}
