package loadtest

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/internal/journal/journaltest"
)

// TestRun_Journal: the key is in the file before the request arrives, and the API key never is.
func TestRun_Journal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	service := clienttest.New()
	service.OnCreate = func(n int) {
		seen := service.Requests()
		if key := seen[len(seen)-1].Key; !strings.Contains(readFile(t, path), `"key":"`+key+`"`) {
			t.Errorf("payment %d: its key is not in the journal", n)
		}
	}
	j := openJournal(t, path)
	refusal := clienttest.Respond(422, "application/problem+json", `{"code":"invalid_payment"}`)
	c := journaltest.NewClient(t, nil, service.Serve(t, nil, clienttest.LoseResponse, nil, nil, refusal).URL)
	if _, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 1, Count: 10, Journal: j}); err == nil {
		t.Error("the refusal did not end the load")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	text := readFile(t, path)
	if strings.Contains(text, journaltest.APIKey) {
		t.Error("the API key is in the journal")
	}
	for part, want := range map[string]int{
		`"event":"sent"`: 4, `"outcome":"taken"`: 3, `"outcome":"refused"`: 1, `"replayed":true`: 1,
	} {
		if got := strings.Count(text, part); got != want {
			t.Errorf("%s is there %d times, want %d\n%s", part, got, want, text)
		}
	}
}

// TestRun_JournalFails: a payment whose key cannot be recorded is not sent.
func TestRun_JournalFails(t *testing.T) {
	j := openJournal(t, filepath.Join(t.TempDir(), "journal"))
	service := clienttest.New()
	service.OnCreate = func(int) { _ = j.Close() }
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 1, Duration: time.Hour, Journal: j})
	if err == nil || !strings.Contains(err.Error(), "journal:") || service.Payments() != 1 || r.Create.Done != 1 {
		t.Errorf("got error %v, %d payments, %+v", err, service.Payments(), r)
	}
	if j.Close() == nil {
		t.Error("Close does not return the error of the write")
	}
}
