package clienttest_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
)

// A test with a *testing.T calls Serve instead, which closes the server when the test ends.
func ExampleService_Handler() {
	service := clienttest.New()
	server := httptest.NewServer(service.Handler(clienttest.Unavailable, clienttest.LoseResponse))
	defer server.Close()

	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "test"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if _, err := c.Create(context.Background(), "order-1", client.Request{Amount: 100, Currency: "EUR"}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(service.Payments(), "payment in", len(service.Requests()), "requests")
	// Output: 1 payment in 3 requests
}
