package integration

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// TestContract checks the running service against its contract. The service runs with PostgreSQL
// and a broker. The tests below are the requests. The OpenAPI document is the judge: a response
// that it does not describe, in status, header or body, fails the test that received it.
//
// At the end each operation of the document must have had a response, and each problem code must
// have occurred. So no line can be added to the contract without a request that shows it.
func TestContract(t *testing.T) {
	c := newContract(t)
	t.Run("Judge", c.testJudge)
	// Rows returns when all its tests have ended, the parallel ones too.
	t.Run("Rows", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T){
			"Document": c.testDocument, "Create": c.testCreate, "NormalForm": c.testNormalForm, "Replay": c.testReplay,
			"Race":      c.testRace,
			"KeyReused": c.testKeyReused, "Key": c.testKey, "Unauthorized": c.testUnauthorized,
			"Scope": c.testScope, "RevokedDuringWait": c.testRevokedDuringWait, "TestKey": c.testTestKey,
			"Tenants":       c.testTenants,
			"MalformedJSON": c.testMalformedJSON, "Members": c.testMembers, "MediaType": c.testMediaType,
			"BodySize": c.testBodySize,
			"Invalid":  c.testInvalid, "AllFaults": c.testAllFaults, "Amount": c.testAmount,
			"NothingStored": c.testNothingStored,
			"Status":        c.testStatus, "ByKey": c.testByKey, "Query": c.testQuery, "NotModified": c.testNotModified,
			"Wait":       c.testWait,
			"CreateWait": c.testCreateWait, "CreateWaitNoSender": c.testCreateWaitNoSender,
			"NotFound": c.testNotFound, "Method": c.testMethod, "Head": c.testHead, "RequestID": c.testRequestID,
			"Ready": c.testReady, "Service": c.testService, "Problems": c.testProblems, "NotHTTP": c.testNotHTTP,
			"HalfABody": c.testHalfABody,
			"NoRate":    c.testNoRate, "Rate": c.testRate, "InFlight": c.testInFlight,
			"InFlightShare": c.testInFlightShare,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
	t.Run("Coverage", c.testCoverage)
}

// statusOf is the closed set of problem codes. The document and the service are each checked
// against it.
var statusOf = map[string]int{
	"malformed_json": 400, "unknown_member": 400, "duplicate_member": 400, "request_timeout": 408,
	"idempotency_key_missing": 400, "idempotency_key_invalid": 400,
	"query_invalid": 400, "unauthorized": 401, "insufficient_scope": 403,
	"not_found": 404, "method_not_allowed": 405, "body_too_large": 413,
	"unsupported_media_type": 415,
	"invalid_payment":        422, "idempotency_key_reused": 422, "rate_limited": 429, "too_many_in_flight": 429,
	"internal": 500, "unavailable": 503,
}

// notProvoked has the codes that no request of these tests can cause, with the reason.
var notProvoked = map[string]string{
	"internal": "nothing that a client sends may cause it",
}

// contract is the service under test, the document that judges it, and the operations and codes
// that have occurred.
type contract struct {
	installation *installation
	base         string
	topic        string
	// key belongs to the tenant of most requests.
	key string
	// foreign is a valid key of another tenant.
	foreign string
	// revoked is a key that was valid once.
	revoked string
	http    *http.Client
	judge   *judge

	mu sync.Mutex
	// responded has the ids of operations that have had a response.
	responded map[string]bool
	// provoked has the problem codes that have occurred.
	provoked map[string]bool
}

func newContract(t *testing.T) *contract {
	t.Helper()
	i := install(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	c := &contract{
		installation: i, base: i.launch(t, "serve").api, topic: i.topic, key: i.key, foreign: i.tenant(t, "foreign"),
		revoked: revokedKey(t, i, "foreign"),
		// The contract has no redirects. So one is judged like any other response.
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		judge: newJudge(t), responded: map[string]bool{}, provoked: map[string]bool{},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

// newContractOf returns a contract with an installation of its own, which runs one command. Its
// responses are checked like all others.
func newContractOf(t *testing.T, command string, c *contract) *contract {
	t.Helper()
	i := install(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return &contract{
		installation: i, base: i.launch(t, command).api, topic: i.topic, key: i.key,
		http:  &http.Client{Transport: transport},
		judge: c.judge, responded: map[string]bool{}, provoked: map[string]bool{},
	}
}

// revokedKey gives the tenant one more key and revokes it. No replica has cached it as valid.
func revokedKey(t *testing.T, i *installation, tenant string) string {
	t.Helper()
	words := strings.Fields(run(t, i.env, "tenants", "add-key", tenant)) // Its form is `tenant NAME key N, …: KEY`.
	run(t, i.env, "tenants", "revoke-key", tenant, strings.TrimSuffix(words[3], ","))
	return words[len(words)-1]
}

// newKey returns an idempotency key that no other test uses.
func newKey() string { return uuid.Must(uuid.NewV7()).String() }

func (c *contract) saw(operation, code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if operation != "" {
		c.responded[operation] = true
	}
	if code != "" {
		c.provoked[code] = true
	}
}

// testCoverage expects a response of each operation, and each code to have occurred or to be
// excused.
func (c *contract) testCoverage(t *testing.T) {
	for path, item := range c.judge.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if !c.responded[operation.OperationID] {
				t.Errorf("got no response of %s %s, want one", method, path)
			}
		}
	}
	for code := range statusOf {
		switch reason := notProvoked[code]; {
		case reason == "" && !c.provoked[code]:
			t.Errorf("got no problem %s, want one", code)
		case reason != "" && c.provoked[code]:
			t.Errorf("got a problem %s, want none: %s", code, reason)
		}
	}
}
