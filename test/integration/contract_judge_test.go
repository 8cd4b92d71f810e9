package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/paylatch/paylatch/internal/api"
)

// judge checks whether the OpenAPI document describes a response.
type judge struct {
	doc    *openapi3.T
	router routers.Router
}

func newJudge(t *testing.T) *judge {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if !doc.IsOpenAPI31OrLater() { // Else kin-openapi does not use JSON Schema 2020-12.
		t.Fatalf("got OpenAPI %s, want 3.1 or later", doc.OpenAPI)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &judge{doc, router}
}

// undescribed lists the headers that the document does not describe: those of HTTP itself.
var undescribed = map[string]bool{
	"Connection": true, "Content-Length": true, "Content-Type": true, "Date": true, "Transfer-Encoding": true,
	"X-Content-Type-Options": true,
}

// check returns how the response departs from the document, and the id of its operation, if it has
// one.
func (j *judge) check(a *response) (operation string, err error) {
	response, operation, err := j.described(a)
	if err != nil {
		return operation, err
	}
	if err := checkHeaders(response, a.header); err != nil {
		return operation, err
	}
	if a.method == http.MethodHead || a.status == http.StatusNotModified || len(response.Content) == 0 {
		if len(a.body) > 0 {
			return operation, fmt.Errorf("got a body of %d bytes, want none", len(a.body))
		}
	}
	if err := j.validate(response, a); err != nil {
		return operation, err
	}
	return operation, checkProblem(a)
}

// described finds the description of the response by path, method and status. If the document does
// not have the path or the method, the components NotFound and MethodNotAllowed describe it. GET
// describes HEAD (RFC 9110 section 9.3.2).
func (j *judge) described(a *response) (*openapi3.Response, string, error) {
	r, err := http.NewRequestWithContext(context.Background(), asGet(a.method), "http://any"+a.target, nil)
	if err != nil {
		return nil, "", err
	}
	route, _, err := j.router.FindRoute(r)
	outside := func(name string, status int) (*openapi3.Response, string, error) {
		if a.status != status {
			return nil, "", fmt.Errorf("got status %d, want that of %s", a.status, name)
		}
		return j.doc.Components.Responses[name].Value, "", nil
	}
	switch {
	case errors.Is(err, routers.ErrPathNotFound):
		return outside("NotFound", http.StatusNotFound)
	case errors.Is(err, routers.ErrMethodNotAllowed):
		return outside("MethodNotAllowed", http.StatusMethodNotAllowed)
	case err != nil:
		return nil, "", err
	}
	described := route.Operation.Responses.Value(strconv.Itoa(a.status))
	if described == nil {
		return nil, route.Operation.OperationID, fmt.Errorf("the document does not describe %s with status %d",
			route.Operation.OperationID, a.status)
	}
	return described.Value, route.Operation.OperationID, nil
}

func asGet(method string) string {
	if method == http.MethodHead {
		return http.MethodGet
	}
	return method
}

// checkHeaders expects that each header is described, and occurs once.
func checkHeaders(response *openapi3.Response, header http.Header) error {
	described := map[string]bool{}
	for name := range response.Headers {
		described[http.CanonicalHeaderKey(name)] = true
	}
	for name, values := range header {
		if !described[name] && !undescribed[name] {
			return fmt.Errorf("the document does not describe header %s", name)
		}
		if len(values) != 1 {
			return fmt.Errorf("got header %s %d times, want once", name, len(values))
		}
	}
	return nil
}

// validate compares headers and body by kin-openapi, which ignores a HEAD and a 304. So these are
// passed as the 200 of a GET whose only response is the one described.
func (j *judge) validate(response *openapi3.Response, a *response) error {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://any"+a.target, nil)
	if err != nil {
		return err
	}
	responses := openapi3.NewResponses(openapi3.WithStatus(http.StatusOK, &openapi3.ResponseRef{Value: response}))
	return openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r, Route: &routers.Route{Spec: j.doc, Operation: &openapi3.Operation{Responses: responses}},
		},
		Status: http.StatusOK, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true,
			ExcludeResponseBody:   a.method == http.MethodHead || len(response.Content) == 0,
		},
	})
}

// checkProblem checks what no schema can say: that a problem document agrees with its response.
func checkProblem(a *response) error {
	if a.header.Get("Content-Type") != "application/problem+json" || a.method == http.MethodHead {
		return nil
	}
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		return err
	}
	path, _, _ := strings.Cut(a.target, "?")
	switch {
	case p.Status != a.status:
		return fmt.Errorf("the problem has status %d, the response %d", p.Status, a.status)
	case p.RequestID != a.header.Get("X-Request-Id"):
		return fmt.Errorf("the problem has request id %q, the response %q", p.RequestID, a.header.Get("X-Request-Id"))
	case p.Instance != path:
		return fmt.Errorf("the problem has instance %q, the request path %q", p.Instance, path)
	}
	return nil
}

// request returns how the body of a create departs from the document.
func (j *judge) request(body string) error {
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		return err
	}
	return j.doc.Components.Schemas["PaymentRequest"].Value.VisitJSON(value, openapi3.EnableJSONSchema2020())
}
