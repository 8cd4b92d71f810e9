package integration

import (
	"maps"
	"slices"
	"testing"

	"github.com/bojanz/currency"
	"github.com/getkin/kin-openapi/openapi3"

	"github.com/paylatch/paylatch/internal/payment"
)

// testDocument checks the document itself: that it is valid, that its sets of values are those of
// the code, and that its examples match its schemas.
func (c *contract) testDocument(t *testing.T) {
	doc := c.judge.doc
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("got error %v, want a valid OpenAPI document", err)
	}
	wantEnum(t, "ProblemCode", doc.Components.Schemas["ProblemCode"].Value, slices.Collect(maps.Keys(statusOf)))
	wantEnum(t, "Currency", doc.Components.Schemas["Currency"].Value, slices.Clone(currency.GetCurrencyCodes()))
	wantEnum(t, "Status", doc.Components.Schemas["Status"].Value, []string{
		string(payment.StatusCreated), string(payment.StatusSent), string(payment.StatusAccepted),
		string(payment.StatusRejected),
	})
	var examples int
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			examples += wantExamples(t, method+" "+path, operation)
		}
	}
	if examples == 0 {
		t.Error("got no examples in the document, want some")
	}
}

func wantEnum(t *testing.T, name string, schema *openapi3.Schema, want []string) {
	t.Helper()
	var got []string
	for _, value := range schema.Enum {
		got = append(got, value.(string))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the document's %s: got\n%q, want\n%q", name, got, want)
	}
}

// wantExamples expects an example for each body of an operation, and that each example matches its
// schema.
func wantExamples(t *testing.T, name string, operation *openapi3.Operation) (n int) {
	t.Helper()
	contents := map[string]openapi3.Content{}
	if operation.RequestBody != nil {
		contents["request"] = operation.RequestBody.Value.Content
	}
	for status, response := range operation.Responses.Map() {
		contents[status] = response.Value.Content
	}
	for part, content := range contents {
		for mediaType, media := range content {
			values := []any{media.Example}
			if media.Example == nil {
				values = nil
				for _, example := range media.Examples {
					values = append(values, example.Value.Value)
				}
			}
			if len(values) == 0 {
				t.Errorf("%s, %s, %s: got no example, want one", name, part, mediaType)
			}
			for _, value := range values {
				if err := media.Schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
					t.Errorf("%s, %s, %s: got an example against the schema: %v", name, part, mediaType, err)
				}
			}
			n += len(values)
		}
	}
	return n
}
