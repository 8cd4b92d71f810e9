package main

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/test/harness"
)

const stepsPerKey = 10

func idOf(key int32) uuid.UUID { return uuid.UUID{0: 1, 15: byte(key)} }

// good is a run in which everything holds: each payment is refused first, then created, sent, and
// found at the end. Its responses are stepsPerKey apart.
func good() *evidence {
	const keys = 6
	e := &evidence{
		rows: map[uuid.UUID]bool{}, kcat: map[uuid.UUID][]harness.Record{}, console: map[uuid.UUID][]harness.Record{},
		away: []window{{server: 0, from: 1000, to: 2000}},
	}
	for key := range int32(keys) {
		id, at := idOf(key), time.Duration(key)*stepsPerKey
		created := reported{id: id, created: 7}
		sent := reported{id: id, created: 7, sent: true, partition: key % 2, offset: int64(key)}
		for step, r := range []response{
			{call: call{key: key, request: requestCreate}, code: http.StatusServiceUnavailable},
			{call: call{key: key, request: requestByKey}, code: http.StatusNotFound},
			{call: call{key: key, request: requestCreate}, code: http.StatusAccepted, payment: created},
			{call: call{key: key, request: requestByID}, code: http.StatusOK, payment: sent},
			{call: call{key: key, request: requestCreate}, code: http.StatusAccepted, payment: created},
			{
				call: call{key: key, request: requestConflict}, code: http.StatusUnprocessableEntity,
				payment: reported{id: id},
			},
			{call: call{key: key, request: requestByID, final: true}, code: http.StatusOK, payment: sent},
			{call: call{key: key, request: requestByKey, final: true}, code: http.StatusOK, payment: sent},
		} {
			r.server, r.began = int8(step%2), at+time.Duration(step)
			r.ended = r.began
			e.responses = append(e.responses, r)
		}
		e.responses = append(e.responses, notFound(unusedKey, requestByKey, at))
		e.rows[id] = true
		record := harness.Record{ID: id, Partition: key % 2, Offset: int64(key)}
		e.kcat[id], e.console[id] = []harness.Record{record}, []harness.Record{record}
	}
	return e
}

func notFound(key int32, request request, at time.Duration) response {
	return response{call: call{key: key, request: request}, code: http.StatusNotFound, began: at, ended: at}
}

// of returns the response of payment 3 at a step of good.
func (e *evidence) of(step int) *response {
	const key = 3
	for i := range e.responses {
		if r := &e.responses[i]; r.key == key && r.began == time.Duration(key*stepsPerKey+step) {
			return r
		}
	}
	panic("no such response")
}

// The judge must find nothing in a good run, and each violation as itself and nothing else.
func TestJudge(t *testing.T) {
	at := func(r *response, d time.Duration) { r.began, r.ended = d, d }
	for name, tc := range map[string]struct {
		spoil func(*evidence)
		want  verdict
	}{
		"Good":          {func(*evidence) {}, verdict{}},
		"NotInTheTable": {func(e *evidence) { delete(e.rows, idOf(3)) }, verdict{Lost: 1, LostSent: 1}},
		"NotFoundAtTheEnd": {func(e *evidence) {
			e.of(7).code, e.of(7).payment = http.StatusNotFound, reported{}
		}, verdict{Lost: 1, LostSent: 1, Denied: 1}},
		"NotFoundOnTheWay": {func(e *evidence) {
			e.responses = append(e.responses, notFound(3, requestByID, 500))
		}, verdict{Denied: 1}},
		"NotFoundWhileUnknown": {func(e *evidence) {
			r := notFound(3, requestByKey, 500)
			r.began = 0
			e.responses = append(e.responses, r)
		}, verdict{}},
		"StoredAgain": {func(e *evidence) { e.of(4).payment.created++ }, verdict{Lost: 1}},
		"OtherID":     {func(e *evidence) { e.of(4).payment.id = uuid.UUID{0: 9} }, verdict{Lost: 1, LostSent: 1}},
		"NeverSent": {func(e *evidence) {
			for _, step := range []int{3, 6, 7} {
				e.of(step).payment = e.of(2).payment
			}
			delete(e.rows, idOf(3))
		}, verdict{Lost: 1}},
		"OnlyConflictSaysSo": {func(e *evidence) {
			for _, step := range []int{2, 3, 4, 6, 7} {
				e.of(step).code, e.of(step).payment = http.StatusServiceUnavailable, reported{}
			}
			delete(e.rows, idOf(3))
		}, verdict{Lost: 1}},
		"Early":             {func(e *evidence) { at(e.of(4), 1500) }, verdict{Early: 1}},
		"EarlyNotFound":     {func(e *evidence) { at(&e.responses[8], 1500) }, verdict{Early: 1}},
		"RefusedMeanwhile":  {func(e *evidence) { at(e.of(0), 1500) }, verdict{}},
		"OtherServer":       {func(e *evidence) { at(e.of(5), 1500) }, verdict{}},
		"BegunBeforeWindow": {func(e *evidence) { e.of(4).ended = 1500 }, verdict{}},
		"Reverted":          {func(e *evidence) { e.of(6).payment = e.of(2).payment }, verdict{Reverted: 1}},
		"Moved":             {func(e *evidence) { e.of(6).payment.offset++ }, verdict{Moved: 1}},
		"TwiceByKcat":       {func(e *evidence) { e.kcat[idOf(3)] = make([]harness.Record, 2) }, verdict{Twice: 1}},
		"TwiceByConsole":    {func(e *evidence) { e.console[idOf(3)] = make([]harness.Record, 2) }, verdict{Twice: 1}},
		"MissingByKcat":     {func(e *evidence) { delete(e.kcat, idOf(3)) }, verdict{Missing: 1}},
		"MissingByConsole":  {func(e *evidence) { delete(e.console, idOf(3)) }, verdict{Missing: 1}},
		"InternalError": {
			func(e *evidence) { e.of(0).code = http.StatusInternalServerError },
			verdict{Faulty: 1},
		},
		"RefusedForGood": {
			func(e *evidence) { e.of(0).code = http.StatusUnprocessableEntity },
			verdict{Faulty: 1},
		},
		"CreateWaits": {
			func(e *evidence) { e.of(4).code, e.of(4).payment = 200, e.of(3).payment },
			verdict{},
		},
		"CreateIsNotSent": {func(e *evidence) {
			e.of(2).code = http.StatusOK
		}, verdict{Faulty: 1}},
		"UnusedKeyExists": {func(e *evidence) {
			e.responses[8].code, e.responses[8].payment = http.StatusOK, reported{id: idOf(3)}
		}, verdict{Faulty: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			e := good()
			tc.spoil(e)
			rand.Shuffle(len(e.responses), func(i, j int) {
				e.responses[i], e.responses[j] = e.responses[j], e.responses[i]
			})
			got := *judge(*e)
			examples := strings.Join(got.Examples, "\n")
			got.Examples, tc.want.Known = nil, 6
			if got.counts() != tc.want.counts() {
				t.Errorf("got %+v, want %+v\n%s", got, tc.want, examples)
			}
		})
	}
}

// counts is a verdict that can be compared.
func (v verdict) counts() [10]int {
	return [10]int{v.Known, v.Lost, v.LostSent, v.Denied, v.Early, v.Reverted, v.Moved, v.Twice, v.Missing, v.Faulty}
}

// Each promise must be broken by what breaks it, and by nothing that it allows.
func TestVerdict_Faults(t *testing.T) {
	for name, tc := range map[string]struct {
		promise promise
		verdict verdict
		want    int
	}{
		"AllHolds":           {promiseAll, verdict{Known: 1}, 0},
		"AllNothingTold":     {promiseAll, verdict{}, 1},
		"AllEachCounts":      {promiseAll, verdict{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, nil}, 8},
		"SentMayLoseUnsent":  {promiseSent, verdict{Known: 9, Lost: 2, Denied: 4, Reverted: 1, Early: 3}, 0},
		"SentLosesSent":      {promiseSent, verdict{Known: 9, Lost: 3, LostSent: 1}, 1},
		"SentMustLose":       {promiseSent, verdict{Known: 9}, 1},
		"SentTwice":          {promiseSent, verdict{Known: 9, Lost: 2, Twice: 1}, 1},
		"NoneMustLose":       {promiseNone, verdict{Known: 9}, 1},
		"NoneLoses":          {promiseNone, verdict{Known: 9, Lost: 9, Denied: 3, Early: 3}, 0},
		"NoneTwiceIsNoMatch": {promiseNone, verdict{Known: 9, Lost: 9, Twice: 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.verdict.faults(tc.promise); len(got) != tc.want {
				t.Errorf("got %d faults %q, want %d", len(got), got, tc.want)
			}
		})
	}
}

// What a body says must be read from every kind of response.
func TestDecodeTold(t *testing.T) {
	const id = "01980000-0000-8000-8000-000000000001"
	for name, tc := range map[string]struct {
		code int
		body string
		want reported
	}{
		"Created": {
			202, `{"id":"` + id + `","status":"created","created_at":"1970-01-01T00:00:01Z"}`,
			reported{id: uuid.MustParse(id), created: 1_000_000},
		},
		"Sent": {
			200, `{"id":"` + id + `","status":"sent","created_at":"1970-01-01T00:00:01Z",` +
				`"position":{"partition":3,"offset":41}}`,
			reported{id: uuid.MustParse(id), created: 1_000_000, sent: true, partition: 3, offset: 41},
		},
		"Conflict": {
			422, `{"status":422,"code":"idempotency_key_reused","payment_id":"` + id + `"}`,
			reported{id: uuid.MustParse(id)},
		},
		"Invalid":  {422, `{"status":422,"code":"invalid_payment"}`, reported{}},
		"NotFound": {404, `{"status":404,"code":"not_found"}`, reported{}},
		"Refused":  {503, `{"status":503,"code":"unavailable"}`, reported{}},
		"Foreign":  {200, `<html>`, reported{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decodeReported(tc.code, []byte(tc.body)); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}
