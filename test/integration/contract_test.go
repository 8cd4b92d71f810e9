package integration

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// TestContract holds the running service to its contract, line by line. What a client relies on is
// told in three places: the OpenAPI document, the design's section on HTTP, and the code. Here the
// design is the table of requests below, the code is the real service with PostgreSQL and a broker
// behind it, and the document judges each answer: one that it does not describe, in status, header
// or body, fails the test that got it.
//
// At the end each operation of the document must have been answered, and each problem code been
// met, so that a line of the contract cannot be added without a request that shows it.
func TestContract(t *testing.T) {
	c := newContract(t)
	t.Run("Judge", c.testJudge)
	t.Run("Rows", func(t *testing.T) { // Returns when all that is in it has ended, the parallel tests too.
		for name, test := range map[string]func(*testing.T){
			"Document": c.testDocument, "Create": c.testCreate, "NormalForm": c.testNormalForm, "Replay": c.testReplay,
			"Race":      c.testRace,
			"KeyReused": c.testKeyReused, "Key": c.testKey, "Unauthorized": c.testUnauthorized,
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

// statusOf is the closed set of problem codes, as the design has it; the document and the service
// are each held to it.
var statusOf = map[string]int{
	"malformed_json": 400, "unknown_member": 400, "duplicate_member": 400, "request_timeout": 408,
	"idempotency_key_missing": 400, "idempotency_key_invalid": 400,
	"query_invalid": 400, "unauthorized": 401, "not_found": 404, "method_not_allowed": 405, "body_too_large": 413,
	"unsupported_media_type": 415,
	"invalid_payment":        422, "idempotency_key_reused": 422, "rate_limited": 429, "too_many_in_flight": 429,
	"internal": 500, "unavailable": 503,
}

// notProvoked are the codes that no request here can bring about, and why.
var notProvoked = map[string]string{
	"internal": "nothing that a client sends may cause it",
}

// contract is the service under test, the document that judges it, and what was seen of both.
type contract struct {
	installation *installation
	base         string
	topic        string
	key          string // Of the tenant most requests are made for.
	foreign      string // A live key of another tenant.
	revoked      string // A key that was live once.
	http         *http.Client
	judge        *judge

	mu       sync.Mutex
	answered map[string]bool // Operation ids.
	provoked map[string]bool // Problem codes.
}

func newContract(t *testing.T) *contract {
	t.Helper()
	i := install(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	c := &contract{
		installation: i, base: i.launch(t, "serve").api, topic: i.topic, key: i.key, foreign: i.tenant(t, "foreign"),
		revoked: revokedKey(t, i, "foreign"),
		// A redirect would be an answer like any other: the contract has none.
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		judge: newJudge(t), answered: map[string]bool{}, provoked: map[string]bool{},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

// newContractOf is a contract with an installation of its own, of which only one command runs. Its
// responses are judged as all others.
func newContractOf(t *testing.T, command string, c *contract) *contract {
	t.Helper()
	i := install(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return &contract{
		installation: i, base: i.launch(t, command).api, topic: i.topic, key: i.key,
		http:  &http.Client{Transport: transport},
		judge: c.judge, answered: map[string]bool{}, provoked: map[string]bool{},
	}
}

// revokedKey gives the tenant one more key and ends it again. No replica has seen it live, so that
// none trusts it for a while yet.
func revokedKey(t *testing.T, i *installation, tenant string) string {
	t.Helper()
	words := strings.Fields(run(t, i.env, "tenants", "add-key", tenant)) // tenant NAME key N, shown this once: KEY
	run(t, i.env, "tenants", "revoke-key", tenant, strings.TrimSuffix(words[3], ","))
	return words[len(words)-1]
}

// newKey is an idempotency key that no other test uses.
func newKey() string { return uuid.Must(uuid.NewV7()).String() }

func (c *contract) saw(operation, code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if operation != "" {
		c.answered[operation] = true
	}
	if code != "" {
		c.provoked[code] = true
	}
}

// testCoverage wants each operation answered and each code provoked or excused.
func (c *contract) testCoverage(t *testing.T) {
	for path, item := range c.judge.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if !c.answered[operation.OperationID] {
				t.Errorf("no request of this test was answered by %s %s", method, path)
			}
		}
	}
	for code := range statusOf {
		switch reason := notProvoked[code]; {
		case reason == "" && !c.provoked[code]:
			t.Errorf("no request of this test provoked %s", code)
		case reason != "" && c.provoked[code]:
			t.Errorf("%s was provoked, though %s", code, reason)
		}
	}
}
