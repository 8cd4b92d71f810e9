package journal

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testRequest() client.Request { return client.Request{Amount: 1, Currency: "EUR"} }

// deadServer returns an address where no server listens any more.
func deadServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	return s.URL
}

func openJournal(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestJournal_RoundTrip: all outcomes are read as they were written, over several runs. A key
// without an outcome is of unknown outcome.
func TestJournal_RoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	id := clienttest.PaymentID(7)
	for run := range 2 {
		j := openJournal(t, path)
		key := func(name string) string { return fmt.Sprint(name, `"\`, run) }
		err := j.Begin()
		for name, outcome := range map[string]error{
			"taken": nil, "refused": &client.ProblemError{Status: 422, Code: "invalid\x1b\"", Detail: "über"},
			"unknown":  &client.UnknownError{Key: "k", Attempts: 2, Err: errors.New("EOF")},
			"not_sent": &client.NotSentError{Err: errors.New("connection refused")},
		} {
			ended := Outcome{ID: id, Replayed: true, Err: outcome}
			err = errors.Join(err, j.Sent("tenant", key(name)), j.Ended(key(name), ended))
		}
		err = errors.Join(err, j.Sent("tenant", key("killed")), j.Close())
		if err != nil {
			t.Fatal(err)
		}
	}
	all, err := readEntries(strings.NewReader(readFile(t, path)))
	if err != nil || len(all.list) != 10 || all.torn != 0 {
		t.Fatalf("%d entries, %d torn, %v", len(all.list), all.torn, err)
	}
	for _, e := range all.list {
		want, _, _ := strings.Cut(strings.ReplaceAll(e.key, "killed", "unknown"), `"`)
		if e.tenant != "tenant" || e.outcome != want || (e.id == uuid.MustParse(id)) != (want == outcomeTaken) {
			t.Errorf("%+v", e)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestJournal_Incomplete: a client may be killed within any line. The rest of the file is read, and
// the next run appends to it.
func TestJournal_Incomplete(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	err := errors.Join(
		j.Begin(), j.Sent("t", "a"), j.Ended("a", Outcome{ID: clienttest.PaymentID(0)}), j.Sent("t", "b"), j.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	whole := readFile(t, path)
	torn := 0
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, []byte(whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, path)
		if err := errors.Join(j.Begin(), j.Sent("t", "next"), j.Close()); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{whole[:cut], readFile(t, path)} {
			all, err := readEntries(strings.NewReader(text))
			if err != nil {
				t.Fatalf("cut at %d: %v\n%s", cut, err, text)
			}
			torn += all.torn
			if rest := strings.Count(text, `"sent"`); len(all.list) > rest || len(all.list) < rest-1 {
				t.Errorf("cut at %d: %d entries\n%s", cut, len(all.list), text)
			}
		}
	}
	if torn < len(whole) {
		t.Errorf("only %d torn lines", torn)
	}
}

// TestJournal_Faults: an invalid line is an error, except as the last one of a run.
func TestJournal_Faults(t *testing.T) {
	const (
		begin = `{"event":"begin","version":1}` + "\n"
		sent  = `{"event":"sent","tenant":"t","key":"a"}` + "\n"
		taken = `{"event":"answer","key":"a","outcome":"taken"`
	)
	for want, text := range map[string]string{
		"line 2: unexpected end":         begin + `{"event":"se` + "\n" + sent,
		"line 3: invalid character":      begin + sent + "garbage\nmore\n",
		`key "a" is there twice`:         begin + sent + sent,
		"which was not sent":             begin + `{"event":"answer","key":"b","outcome":"taken"}` + "\n",
		"no outcome":                     begin + sent + `{"event":"answer","key":"a"}` + "\n",
		"invalid UUID length":            begin + sent + taken + `,"id":"x"}` + "\n",
		"version 2":                      `{"event":"begin","version":2}` + "\n" + sent,
		"no key":                         begin + `{"event":"sent"}` + "\n" + sent,
		`event "other" is not supported`: begin + `{"event":"other"}` + "\n" + sent,
		"token too long":                 begin + `{"event":"sent","key":"` + strings.Repeat("x", lineBytesMax),
	} {
		if _, err := readEntries(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q in it", err, want)
		}
	}
}
