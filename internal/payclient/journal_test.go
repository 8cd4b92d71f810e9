package payclient

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payclient/faultyserver"
)

func openJournal(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := OpenJournal(path)
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

// What is written is what is read, over several runs, and also what a killed client has not finished.
func TestJournal_RoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	id := faultyserver.ID(7)
	for run := range 2 {
		j := openJournal(t, path)
		key := func(name string) string { return fmt.Sprint(name, `"\`, run) }
		err := j.begin()
		for name, outcome := range map[string]error{
			"taken": nil, "refused": &Problem{Status: 422, Code: "invalid\x1b\"", Detail: "über"},
			"unknown": &UnknownError{Key: "k", Attempts: 2, Cause: errors.New("EOF")}, "not_sent": errors.New("no server reached"),
		} {
			err = errors.Join(err, j.sent("tenant", key(name)), j.answered(key(name), posted{id: id, replayed: true}, trail{}, outcome))
		}
		err = errors.Join(err, j.sent("tenant", key("killed")), j.Close())
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

// A client may be killed in the middle of any line: what is left is read, at each length that it can have; and the next run goes on in the same file.
func TestJournal_HalfWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	if err := errors.Join(j.begin(), j.sent("t", "a"), j.answered("a", posted{id: faultyserver.ID(0)}, trail{}, nil), j.sent("t", "b"), j.Close()); err != nil {
		t.Fatal(err)
	}
	whole := readFile(t, path)
	torn := 0
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, []byte(whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, path)
		if err := errors.Join(j.begin(), j.sent("t", "next"), j.Close()); err != nil {
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

// A line that nobody can have left half-written is no journal's, wherever it is but at the end of a run.
func TestJournal_Faults(t *testing.T) {
	const begin, sent = `{"event":"begin","version":1}` + "\n", `{"event":"sent","tenant":"t","key":"a"}` + "\n"
	for says, text := range map[string]string{
		"line 2: unexpected end":    begin + `{"event":"se` + "\n" + sent,
		"line 3: invalid character": begin + sent + "garbage\nmore\n",
		"key a is there twice":      begin + sent + sent,
		"which was not sent":        begin + `{"event":"answer","key":"b","outcome":"taken"}` + "\n",
		"no outcome":                begin + sent + `{"event":"answer","key":"a"}` + "\n",
		"invalid UUID length":       begin + sent + `{"event":"answer","key":"a","outcome":"taken","id":"x"}` + "\n",
		"version 2":                 `{"event":"begin","version":2}` + "\n" + sent,
		"no key":                    begin + `{"event":"sent"}` + "\n" + sent,
		`event "other" is not`:      begin + `{"event":"other"}` + "\n" + sent,
		"token too long":            begin + `{"event":"sent","key":"` + strings.Repeat("x", journalLineMax),
	} {
		if _, err := readEntries(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in %v", says, err)
		}
	}
}

// The key is in the file before the request arrives, and the API key never is.
func TestLoad_Journal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	ledger := faultyserver.New()
	ledger.OnTake = func(n int) {
		seen := ledger.Seen()
		if key := seen[len(seen)-1].Key; !strings.Contains(readFile(t, path), `"key":"`+key+`"`) {
			t.Errorf("payment %d: its key is not in the journal", n)
		}
	}
	j := openJournal(t, path)
	refusal := faultyserver.Answer(422, "application/problem+json", `{"code":"invalid_payment"}`)
	c := newTestClient(t, nil, ledger.Serve(t, nil, faultyserver.DropAfter, nil, nil, refusal).URL)
	if _, err := Load(t.Context(), []*Client{c}, LoadConfig{Workers: 1, Count: 10, Journal: j}); err == nil {
		t.Error("the refusal did not end the load")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	text := readFile(t, path)
	all, err := readEntries(strings.NewReader(text))
	if err != nil || strings.Contains(text, testKey) {
		t.Fatalf("%v\n%s", err, text)
	}
	var outcomes []string
	for _, e := range all.list {
		outcomes = append(outcomes, e.outcome)
	}
	if got := strings.Join(outcomes, " "); got != "taken taken taken refused" || strings.Count(text, `"replayed":true`) != 1 {
		t.Errorf("%s\n%s", got, text)
	}
}

// A journal that cannot be written keeps its payment from being sent.
func TestLoad_JournalFails(t *testing.T) {
	j := openJournal(t, filepath.Join(t.TempDir(), "journal"))
	ledger := faultyserver.New()
	ledger.OnTake = func(int) { _ = j.file.Close() }
	r, err := Load(t.Context(), []*Client{newTestClient(t, nil, ledger.Serve(t).URL)}, LoadConfig{Workers: 1, Duration: time.Hour, Journal: j})
	if err == nil || !strings.Contains(err.Error(), "journal:") || ledger.Payments() != 1 || r.Writes.Done != 1 {
		t.Errorf("%v, %d payments, %+v", err, ledger.Payments(), r)
	}
	if j.Close() == nil {
		t.Error("the error is forgotten")
	}
}
