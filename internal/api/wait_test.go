package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
)

// slowStore is a memoryStore whose payment is sent by the sentAfter-th Look, and which fails as
// told.
type slowStore struct {
	*memoryStore
	sentAfter int32 // 0: never.
	replay    bool
	wasSent   bool // Before the replay.
	lookHangs bool

	createErr, lookErr, findErr error

	looks, finds atomic.Int32
}

var errAway = errors.Join(payment.ErrUnavailable, errors.New("the database is away"))

func (s *slowStore) at(sent bool) payment.Payment {
	p := s.stored
	if !sent {
		p.Status, p.Sent = payment.Created, nil
	}
	return p
}

func (s *slowStore) sent() bool { return s.sentAfter > 0 && s.looks.Load() >= s.sentAfter }

func (s *slowStore) Create(context.Context, payment.Payment) (payment.Payment, bool, error) {
	return s.at(s.wasSent), s.replay, s.createErr
}

func (s *slowStore) Look(ctx context.Context, _ payment.TenantRef, _ payment.ID) (payment.Payment, error) {
	s.looks.Add(1)
	if s.lookHangs {
		<-ctx.Done()
		return payment.Payment{}, ctx.Err()
	}
	return s.at(s.sent()), s.lookErr
}

func (s *slowStore) Find(ctx context.Context, _ payment.TenantRef, _ payment.ID) (payment.Payment, error) {
	s.finds.Add(1)
	return s.at(s.sent()), errors.Join(s.findErr, ctx.Err())
}

// ask makes one request of the server and returns its response.
func (s *slowStore) ask(ctx context.Context, t *testing.T, server *Server, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	key, err := payment.NewAPIKey("test")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(sampleBody))
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", uuid.NewString())
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	return w
}

// TestCreate_Wait: a create that waits is answered 200 once the payment is sent, and in all other
// cases as one that does not wait. Only a create that fails before its commit is told so.
func TestCreate_Wait(t *testing.T) {
	const wait = 3 * time.Second
	for name, row := range map[string]struct {
		store   *slowStore
		prefer  string
		full    bool          // All waiters' places are taken.
		stop    time.Duration // When the server begins to stop, if it does.
		gone    time.Duration // When the client goes away, if it does.
		status  int
		took    time.Duration // At most.
		finds   int32
		noLooks bool
	}{
		"Sent":             {store: &slowStore{sentAfter: 3}, status: 200, took: time.Second, finds: 1},
		"NoPreference":     {store: &slowStore{sentAfter: 1}, prefer: "none", status: 202, noLooks: true},
		"Timeout":          {status: 202, took: wait},
		"LookHangs":        {store: &slowStore{lookHangs: true}, status: 202, took: wait},
		"LookFails":        {store: &slowStore{lookErr: errAway}, status: 202, took: time.Second},
		"ConfirmFails":     {store: &slowStore{sentAfter: 1, findErr: errAway}, status: 202, took: time.Second, finds: 1},
		"NoPlace":          {store: &slowStore{sentAfter: 1}, full: true, status: 202, noLooks: true},
		"Stopped":          {stop: time.Second, status: 202, took: time.Second},
		"ClientGone":       {gone: time.Second, status: 202, took: time.Second},
		"Replay":           {store: &slowStore{replay: true, sentAfter: 2}, status: 200, took: time.Second, finds: 1},
		"ReplayOfSent":     {store: &slowStore{replay: true, wasSent: true}, full: true, status: 200, noLooks: true},
		"ReplayTimeout":    {store: &slowStore{replay: true}, status: 202, took: wait},
		"ReplayNoPlace":    {store: &slowStore{replay: true}, full: true, status: 202, noLooks: true},
		"NotCommitted":     {store: &slowStore{createErr: errAway}, status: 503, noLooks: true},
		"KeyReusedAnyway":  {store: &slowStore{createErr: &payment.KeyReused{Differs: []string{"/amount"}}}, status: 422, noLooks: true},
		"UnreadablePrefer": {store: &slowStore{sentAfter: 1}, prefer: "wait=x", status: 202, noLooks: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, memory := newMemoryServer(t)
				store := cmp.Or(row.store, &slowStore{})
				store.memoryStore, server.store = memory, store
				if row.full {
					for range waitersMax {
						server.waiters <- struct{}{}
					}
				}
				if row.stop > 0 {
					time.AfterFunc(row.stop, server.close)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if row.gone > 0 {
					time.AfterFunc(row.gone, cancel)
				}
				prefer := row.prefer
				if prefer == "" {
					prefer = "wait=3"
				}
				began := time.Now()
				w := store.ask(ctx, t, server, http.MethodPost, "/payments", "Prefer", prefer)
				if took := time.Since(began); took > row.took {
					t.Errorf("answered after %s, want at most %s", took, row.took)
				}
				if w.Code != row.status {
					t.Fatalf("status %d, want %d", w.Code, row.status)
				}
				if finds, looks := store.finds.Load(), store.looks.Load(); finds != row.finds || (looks == 0) != row.noLooks {
					t.Errorf("%d finds and %d looks, want %d finds", finds, looks, row.finds)
				}
				wantCreateHeaders(t, w, memory.stored.ID, store.replay)
			})
		})
	}
}

// wantCreateHeaders checks the headers and the body of a response to a create that waits.
func wantCreateHeaders(t *testing.T, w *httptest.ResponseRecorder, id payment.ID, replay bool) {
	t.Helper()
	path, want := "/payments/"+id.String(), map[string]string{}
	var status payment.Status
	switch w.Code {
	case http.StatusOK:
		status = payment.Sent
		want["Content-Location"], want["Preference-Applied"] = path, "wait=3"
		want["Cache-Control"], want["Vary"] = "private, no-cache", "Authorization, Prefer"
	case http.StatusAccepted:
		status = payment.Created
		want["Location"], want["Retry-After"] = path, "1"
	default:
		return
	}
	if replay {
		want["Idempotent-Replayed"] = "true"
	}
	names := []string{"Content-Location", "Preference-Applied", "Cache-Control", "Vary", "Location", "Retry-After", "Idempotent-Replayed"}
	for _, name := range names {
		if got := w.Header().Get(name); got != want[name] {
			t.Errorf("%s: %q, want %q", name, got, want[name])
		}
	}
	if tagged := w.Header().Get("Etag") != ""; tagged != (w.Code == http.StatusOK) {
		t.Errorf("ETag %q in a %d", w.Header().Get("Etag"), w.Code)
	}
	var body struct {
		Status payment.Status
	}
	if err := json.NewDecoder(w.Body).Decode(&body); err != nil || body.Status != status {
		t.Errorf("the body has status %q, want %q (error %v)", body.Status, status, err)
	}
}

// TestStatus_Wait: a status that is held is polled by Look, and found once for what it reports.
func TestStatus_Wait(t *testing.T) {
	for name, row := range map[string]struct {
		store   *slowStore
		full    bool
		prefer  string
		status  int
		applied string
		finds   int32
	}{
		"Sent":         {store: &slowStore{sentAfter: 3}, prefer: "wait=3", status: 200, applied: "wait=3", finds: 1},
		"Already":      {store: &slowStore{sentAfter: 1}, prefer: "wait=3", status: 200, applied: "wait=3", finds: 1},
		"Timeout":      {prefer: "wait=3", status: 200, applied: "wait=3", finds: 1},
		"NoPlace":      {full: true, prefer: "wait=3", status: 200, finds: 1},
		"NoPreference": {status: 200, finds: 1},
		"LookFails":    {store: &slowStore{lookErr: errAway}, prefer: "wait=3", status: 200, finds: 1},
		"FindFails":    {store: &slowStore{sentAfter: 3, findErr: errAway}, prefer: "wait=3", status: 503, finds: 1},
		"NotFound": {
			store:  &slowStore{lookErr: payment.ErrNotFound, findErr: payment.ErrNotFound},
			prefer: "wait=3", status: 404, finds: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, memory := newMemoryServer(t)
				store := cmp.Or(row.store, &slowStore{})
				store.memoryStore, server.store = memory, store
				if row.full {
					for range waitersMax {
						server.waiters <- struct{}{}
					}
				}
				w := store.ask(t.Context(), t, server, http.MethodGet, "/payments/"+memory.stored.ID.String(), "Prefer", row.prefer)
				if w.Code != row.status || w.Header().Get("Preference-Applied") != row.applied || store.finds.Load() != row.finds {
					t.Errorf("got %d, %q and %d finds; want %d, %q and %d", w.Code, w.Header().Get("Preference-Applied"),
						store.finds.Load(), row.status, row.applied, row.finds)
				}
			})
		})
	}
}
