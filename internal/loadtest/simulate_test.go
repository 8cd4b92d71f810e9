package loadtest

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/internal/journal/journaltest"
)

// sentRow is a row of a payment that was sent.
var sentRow = regexp.MustCompile(`^([0-9a-f-]{36}) +(\d+(?:\.\d\d)? [A-Z]{3})  sent    +\d+\.\d +\d+\.\d +\d+:\d+$`)

// TestSimulate: some requests and responses are lost. The table shows each payment once, aligned,
// in at most 100 columns.
func TestSimulate(t *testing.T) {
	service := clienttest.New()
	s := service.Serve(t, nil, clienttest.LoseResponse, clienttest.Unavailable, clienttest.LoseRequest)
	var out bytes.Buffer
	if err := Simulate(t.Context(), journaltest.NewClient(t, nil, s.URL), 12, &out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	if service.Payments() != 12 {
		t.Errorf("%d payments", service.Payments())
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(lines) != 1+12+2 {
		t.Fatalf("%d lines", len(lines))
	}
	width, shown := utf8.RuneCountInString(lines[0]), map[string]bool{}
	for _, line := range lines[1:13] {
		m := sentRow.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("line %q", line)
			continue
		}
		if shown[m[1]] || !service.Has(m[1]) {
			t.Errorf("payment %s: shown twice, or not taken", m[1])
		}
		shown[m[1]] = true
		if n := utf8.RuneCountInString(line); n != width || n > 100 {
			t.Errorf("line of %d columns, heading of %d: %q", n, width, line)
		}
	}
	if last := lines[14]; !strings.HasPrefix(last, "12 of 12 payments sent in ") || utf8.RuneCountInString(last) > 100 {
		t.Errorf("summary %q", last)
	}
}

func TestSimulate_NotSentInTime(t *testing.T) {
	service := clienttest.New()
	service.NeverSend = true
	var out bytes.Buffer
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	err := SimulateWithin(t.Context(), c, 7, 10*time.Millisecond, &out)
	if err == nil || !strings.HasPrefix(err.Error(), "7 of 7 payments failed or were not sent") ||
		!strings.Contains(err.Error(), "and 2 more") {
		t.Errorf("error %v", err)
	}
	if strings.Count(out.String(), "  created ") != 7 || !strings.Contains(out.String(), "0 of 7 payments sent") {
		t.Errorf("table:\n%s", out.String())
	}
}

// TestSimulate_Unknown: the error wraps that of a payment of unknown outcome.
func TestSimulate_Unknown(t *testing.T) {
	service := clienttest.New()
	s := service.Serve(t, clienttest.Respond(500, "text/plain", "bug"))
	var out bytes.Buffer
	err := Simulate(t.Context(), journaltest.NewClient(t, nil, s.URL), 2, &out)
	if _, unknown := errors.AsType[*client.UnknownError](err); !unknown {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(out.String(), "1 of 2 payments sent") || !strings.Contains(out.String(), "failed") {
		t.Errorf("table:\n%s", out.String())
	}
}

func TestSimulate_Bounds(t *testing.T) {
	c := journaltest.NewClient(t, nil, "http://unused.invalid")
	for _, n := range []int{-1, 0, SimulateMax + 1} {
		if err := Simulate(t.Context(), c, n, &bytes.Buffer{}); err == nil {
			t.Errorf("%d accepted", n)
		}
	}
}
