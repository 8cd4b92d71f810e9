package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// slowStore is a fakeStore whose payment is sent at the sentAfter-th Look. It fails as its fields
// say.
type slowStore struct {
	*fakeStore
	// sentAfter 0 is never.
	sentAfter int32
	replay    bool
	// wasSent says that the payment was sent before the replay.
	wasSent   bool
	lookHangs bool

	createErr, lookErr, findErr error
	// keyErr is what Authenticate returns from the keyErrAfter-th Look on.
	keyErr      error
	keyErrAfter int32

	looks, finds atomic.Int32
}

var errAway = errors.Join(payment.ErrUnavailable, errors.New("the database is away"))

func (s *slowStore) at(sent bool) payment.Payment {
	p := s.stored
	if !sent {
		p.Status, p.Emission = payment.StatusCreated, nil
	}
	return p
}

func (s *slowStore) sent() bool { return s.sentAfter > 0 && s.looks.Load() >= s.sentAfter }

func (s *slowStore) Authenticate(ctx context.Context, key payment.APIKeyHash) (payment.Access, error) {
	if s.keyErr != nil && s.looks.Load() >= s.keyErrAfter {
		return payment.Access{}, s.keyErr
	}
	return s.fakeStore.Authenticate(ctx, key)
}

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

// fill has waitersMax requests wait, each of another tenant.
func fill(s *Server) {
	for n := range int32(waitersMax) {
		s.places.take(-n, 1)
	}
}

// TestCreate_Wait: a create that waits gets a 200 once the payment is sent. In all other cases its
// response is that of a create that does not wait. Only a create that was not committed fails.
func TestCreate_Wait(t *testing.T) {
	const wait, second = 3 * time.Second, time.Second
	keyReused := &payment.KeyReusedError{Differs: []string{"/amount"}}
	for name, row := range map[string]struct {
		store  *slowStore
		prefer string
		// full says that waitersMax requests wait already.
		full bool
		// stop is when the server stops, and gone is when the client goes away; 0 is never.
		stop, gone time.Duration
		status     int
		tookMax    time.Duration
		finds      int32
		noLooks    bool
	}{
		"Sent":            {store: &slowStore{sentAfter: 3}, status: 200, tookMax: second, finds: 1},
		"NoPreference":    {store: &slowStore{sentAfter: 1}, prefer: "none", status: 202, noLooks: true},
		"Timeout":         {status: 202, tookMax: wait},
		"LookHangs":       {store: &slowStore{lookHangs: true}, status: 202, tookMax: wait},
		"LookFails":       {store: &slowStore{lookErr: errAway}, status: 202, tookMax: second},
		"ConfirmFails":    {store: &slowStore{sentAfter: 1, findErr: errAway}, status: 202, tookMax: second, finds: 1},
		"NoPlace":         {store: &slowStore{sentAfter: 1}, full: true, status: 202, noLooks: true},
		"Stopped":         {stop: time.Second, status: 202, tookMax: second},
		"ClientGone":      {gone: time.Second, status: 202, tookMax: second},
		"Replay":          {store: &slowStore{replay: true, sentAfter: 2}, status: 200, tookMax: second, finds: 1},
		"ReplayOfSent":    {store: &slowStore{replay: true, wasSent: true}, full: true, status: 200, noLooks: true},
		"ReplayTimeout":   {store: &slowStore{replay: true}, status: 202, tookMax: wait},
		"ReplayNoPlace":   {store: &slowStore{replay: true}, full: true, status: 202, noLooks: true},
		"NotCommitted":    {store: &slowStore{createErr: errAway}, status: 503, noLooks: true},
		"KeyReusedAnyway": {store: &slowStore{createErr: keyReused}, status: 422, noLooks: true},
		"Revoked": {
			store:  &slowStore{keyErr: payment.ErrUnauthorized, keyErrAfter: 3},
			status: 202, tookMax: second,
		},
		"RevokedAndSent": {
			store:  &slowStore{keyErr: payment.ErrUnauthorized, keyErrAfter: 1, sentAfter: 1},
			status: 202, tookMax: second, finds: 1,
		},
		"KeyNotKnown": {
			store:  &slowStore{keyErr: errAway, keyErrAfter: 1, sentAfter: 1},
			status: 202, tookMax: second, finds: 1,
		},
		"UnreadablePrefer": {store: &slowStore{sentAfter: 1}, prefer: "wait=x", status: 202, noLooks: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, memory := newTestServer(t)
				store := cmp.Or(row.store, &slowStore{})
				store.fakeStore, server.store = memory, store
				if row.full {
					fill(server)
				}
				if row.stop > 0 {
					time.AfterFunc(row.stop, server.close)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if row.gone > 0 {
					time.AfterFunc(row.gone, cancel)
				}
				r := request(t, http.MethodPost, "/payments", sampleBody, "Prefer", cmp.Or(row.prefer, "wait=3"))
				w := httptest.NewRecorder()
				began := time.Now()
				server.ServeHTTP(w, r.WithContext(ctx))
				if took := time.Since(began); took > row.tookMax {
					t.Errorf("got a response after %s, want at most %s", took, row.tookMax)
				}
				if w.Code != row.status {
					t.Fatalf("got status %d, want %d", w.Code, row.status)
				}
				finds, looks := store.finds.Load(), store.looks.Load()
				if finds != row.finds || (looks == 0) != row.noLooks {
					t.Errorf("got %d calls of Find and %d of Look, want %d of Find", finds, looks, row.finds)
				}
				wantCreateHeaders(t, w, memory.stored.ID, store.replay)
			})
		})
	}
}

// wantCreateHeaders checks the headers and the body of a response to a create that waits.
func wantCreateHeaders(t *testing.T, w *httptest.ResponseRecorder, id payment.ID, replay bool) {
	t.Helper()
	path, want := "/payments/"+id.String(), map[string]string{"Cache-Control": "no-store"}
	var status payment.Status
	switch w.Code {
	case http.StatusOK:
		status = payment.StatusSent
		want["Content-Location"], want["Preference-Applied"] = path, "wait=3"
		want["Vary"] = "Authorization, Prefer"
	case http.StatusAccepted:
		status = payment.StatusCreated
		want["Location"], want["Retry-After"] = path, "1"
	default:
		return
	}
	if replay {
		want["Idempotent-Replayed"] = "true"
	}
	for _, name := range []string{
		"Content-Location", "Preference-Applied", "Cache-Control", "Vary", "Location", "Retry-After",
		"Idempotent-Replayed",
	} {
		if got := w.Header().Get(name); got != want[name] {
			t.Errorf("%s: got %q, want %q", name, got, want[name])
		}
	}
	if tag := w.Header().Get("Etag"); (tag != "") != (w.Code == http.StatusOK) {
		t.Errorf("got ETag %q in a %d, want one in a 200 only", tag, w.Code)
	}
	var body struct {
		Status payment.Status
	}
	if err := json.NewDecoder(w.Body).Decode(&body); err != nil || body.Status != status {
		t.Errorf("got status %q in the body (error %v), want %q", body.Status, err, status)
	}
}

// TestStatus_Wait: a request that waits polls with Look. What it reports comes from one Find.
func TestStatus_Wait(t *testing.T) {
	for name, row := range map[string]struct {
		store   *slowStore
		full    bool
		prefer  string
		status  int
		applied string
		finds   int32
		tookMax time.Duration
	}{
		"Sent":         {store: &slowStore{sentAfter: 3}, prefer: "wait=3", status: 200, applied: "wait=3", finds: 1},
		"Already":      {store: &slowStore{sentAfter: 1}, prefer: "wait=3", status: 200, applied: "wait=3", finds: 1},
		"Timeout":      {prefer: "wait=3", status: 200, applied: "wait=3", finds: 1},
		"NoPlace":      {full: true, prefer: "wait=3", status: 200, finds: 1},
		"NoPreference": {status: 200, finds: 1},
		"LookFails":    {store: &slowStore{lookErr: errAway}, prefer: "wait=3", status: 200, finds: 1},
		"FindFails":    {store: &slowStore{sentAfter: 3, findErr: errAway}, prefer: "wait=3", status: 503, finds: 1},
		// The key is revoked during the wait, which has not seen a change.
		"Revoked": {
			store:  &slowStore{keyErr: payment.ErrUnauthorized, keyErrAfter: 3},
			prefer: "wait=30", status: 401, finds: 1, tookMax: time.Second,
		},
		"RevokedAndSent": {
			store:  &slowStore{keyErr: payment.ErrUnauthorized, keyErrAfter: 2, sentAfter: 2},
			prefer: "wait=3", status: 401, finds: 1,
		},
		"RevokedAndNotFound": {
			store: &slowStore{
				keyErr: payment.ErrUnauthorized, keyErrAfter: 2, sentAfter: 2, findErr: payment.ErrNotFound,
			},
			prefer: "wait=3", status: 401, finds: 1,
		},
		"KeyNotKnown": {
			store:  &slowStore{keyErr: errAway, keyErrAfter: 3, sentAfter: 5},
			prefer: "wait=3", status: 503, finds: 1,
		},
		"NotFound": {
			store:  &slowStore{lookErr: payment.ErrNotFound, findErr: payment.ErrNotFound},
			prefer: "wait=3", status: 404, finds: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, memory := newTestServer(t)
				store := cmp.Or(row.store, &slowStore{})
				store.fakeStore, server.store = memory, store
				if row.full {
					fill(server)
				}
				began := time.Now()
				w := do(t, server, http.MethodGet, "/payments/"+memory.stored.ID.String(), "", "Prefer", row.prefer)
				if took := time.Since(began); row.tookMax > 0 && took > row.tookMax {
					t.Errorf("got a response after %s, want at most %s", took, row.tookMax)
				}
				applied, finds := w.Header().Get("Preference-Applied"), store.finds.Load()
				if w.Code != row.status || applied != row.applied || finds != row.finds {
					t.Errorf("got status %d, Preference-Applied %q and %d calls of Find; want %d, %q and %d",
						w.Code, applied, finds, row.status, row.applied, row.finds)
				}
			})
		})
	}
}
