package integration

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAPI_ManyConnections opens three times as many connections as a process with few files may
// have. The API takes new clients, and the admin listener shows metrics.
func TestAPI_ManyConnections(t *testing.T) {
	t.Parallel()
	const (
		files          = 200
		connectionsMax = files / 2
	)
	i := install(t)
	plain := command(t, i.env, "api")
	limited := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" api`, files), plain.Path)
	limited.Env, limited.Dir = plain.Env, plain.Dir
	p := launchCommand(t, limited)
	address := strings.TrimPrefix(p.api, "http://")
	for n := range 3 * connectionsMax {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("GET /livez HTTP/1.1\r\nHost: paylatch\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		_ = response.Body.Close()
	}
	metrics := get(t, p.admin+"/metrics")
	for _, want := range []string{
		fmt.Sprintf("paylatch_connections_max %d", connectionsMax),
		fmt.Sprintf("paylatch_connections_open %d", connectionsMax),
		fmt.Sprintf("paylatch_connections_evicted_total %d", 2*connectionsMax),
		"paylatch_accept_errors_total 0",
	} {
		if !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("got no %q in the metrics", want)
		}
	}
	if !strings.Contains(p.stderr.String(), "clients have as many connections as they may") {
		t.Error("got no warning that the bound is reached")
	}
}
