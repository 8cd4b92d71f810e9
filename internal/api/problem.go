package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// problem is a problem document (RFC 9457) with extension members.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Instance  string `json:"instance"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
	PaymentID string `json:"payment_id,omitzero"`
	// Reason is set by GET /readyz only.
	Reason unreadyReason `json:"reason,omitzero"`
	Errors []fault       `json:"errors,omitzero"`
}

// fault is one fault of one member of the request.
type fault struct {
	// Pointer is a JSON pointer (RFC 6901).
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

// problemType is what all problems of one code have in common.
type problemType struct {
	status int
	title  string
	// help is for a developer who meets the problem for the first time.
	help string
}

// retryHelp is the help of problems after which the same request should be made again.
const retryHelp = "Make the same request again, with the same Idempotency-Key"

// problemTypes are the problems that a client can meet, by code. The codes and titles are part of
// the contract.
var problemTypes = map[string]problemType{
	"malformed_json": {
		http.StatusBadRequest, "The body is not a JSON object",
		"Send one JSON object in UTF-8 (RFC 8259).",
	},
	"unknown_member": {
		http.StatusBadRequest, "Unknown member",
		"Members that the API does not know are refused, so that a misspelled one is not lost. detail names it.",
	},
	"duplicate_member": {
		http.StatusBadRequest, "Duplicate member",
		"A member given twice has no defined meaning (RFC 8259 section 4). detail names it.",
	},
	"request_timeout": {
		http.StatusRequestTimeout, "The body did not arrive in time",
		"Nothing was stored. " + retryHelp + ".",
	},
	"idempotency_key_missing": {
		http.StatusBadRequest, "Idempotency-Key is missing",
		"Make a new UUIDv7 for each payment, keep it, and send it as Idempotency-Key " +
			"with every attempt for that payment.",
	},
	"idempotency_key_invalid": {
		http.StatusBadRequest, "Idempotency-Key is malformed",
		"A key is 1 to 255 visible ASCII characters, bare or as a quoted string (RFC 8941), in one header.",
	},
	"query_invalid": {
		http.StatusBadRequest, "The query is malformed",
		"GET /payments takes exactly one parameter, idempotency_key.",
	},
	"unauthorized": {
		http.StatusUnauthorized, "No live API key",
		"Send one header Authorization: Bearer with a key of your tenant. A key that was revoked or has expired " +
			"stays refused. A test key works only in a test installation.",
	},
	"insufficient_scope": {
		http.StatusForbidden, "The API key does not have the scope",
		"WWW-Authenticate names the scope: payments:create or payments:read. Use a key of your tenant that has it.",
	},
	"not_found": {
		http.StatusNotFound, "Not found",
		"There is nothing here for your tenant. If the response to a create was lost, " +
			"GET /payments?idempotency_key=K finds the payment.",
	},
	"method_not_allowed": {
		http.StatusMethodNotAllowed, "Method not allowed",
		"The Allow header names the methods of this path.",
	},
	"body_too_large": {
		http.StatusRequestEntityTooLarge, "The body is too large",
		fmt.Sprintf("A request body has at most %d bytes.", bodyBytesMax),
	},
	"unsupported_media_type": {
		http.StatusUnsupportedMediaType, "Unsupported media type",
		"Send Content-Type: application/json.",
	},
	"invalid_payment": {
		http.StatusUnprocessableEntity, "The payment is invalid",
		"Nothing was stored and the idempotency key is still free. errors names every member that is wrong.",
	},
	"idempotency_key_reused": {
		http.StatusUnprocessableEntity, "Idempotency key reused with other content",
		"The key stands for payment_id, whose members named in errors differ. Use a new key for a new payment.",
	},
	"rate_limited": {
		http.StatusTooManyRequests, "Too many requests per second",
		"Nothing was stored and the idempotency key is as free as before. " + retryHelp +
			", after Retry-After seconds. RateLimit-Policy and RateLimit show the limit of your tenant.",
	},
	"too_many_in_flight": {
		http.StatusTooManyRequests, "Too many requests at once",
		"Nothing was stored and the idempotency key is as free as before. Wait for responses before you " +
			"send more requests. " + retryHelp + ", after Retry-After seconds.",
	},
	"internal": {
		http.StatusInternalServerError, "Internal error",
		"This is a fault of the service. " + retryHelp + ". Report the request_id.",
	},
	"unavailable": {
		http.StatusServiceUnavailable, "Temporarily unavailable",
		retryHelp + ", after Retry-After seconds. If the payment was stored, it is found.",
	},
}

func newProblem(code, detail string) *problem {
	t := problemTypes[code]
	return &problem{Type: "/problems/" + code, Title: t.title, Status: t.status, Detail: detail, Code: code}
}

// explainProblem handles GET /problems/{code}, the URL in the member type of a problem.
func explainProblem(x *exchange) error {
	code := lastSegment(x.r)
	t, ok := problemTypes[code]
	if !ok {
		return refuse("not_found", "the problem codes are %v", slices.Sorted(maps.Keys(problemTypes)))
	}
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := fmt.Fprintf(x, "%s (%d)\n%s.\n\n%s\n", code, t.status, t.title, t.help)
	return err
}
