package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/client/clienttest"
)

// TestRun_KeyFile: the API key may be in a file. One in a file and one elsewhere are a fault that
// names both and shows neither.
func TestRun_KeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("pl_test_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	service := clienttest.New()
	server := service.Serve(t).URL
	const both = "an API key (--key, PAYLATCH_API_KEY) and a file of API keys (--key-file, PAYLATCH_API_KEY_FILE)"
	for i, row := range []struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		{nil, []string{"--key-file", path}, exitOK, `"id"`},
		{map[string]string{"PAYLATCH_API_KEY_FILE": path}, nil, exitOK, `"id"`},
		{map[string]string{"PAYLATCH_API_KEY": "pl_test_1"}, []string{"--key-file", path}, exitUsage, both},
		{map[string]string{"PAYLATCH_API_KEY_FILE": path}, []string{"--key=pl_test_1"}, exitUsage, both},
		{nil, []string{"--key-file", empty}, exitUsage, "(PAYLATCH_API_KEY_FILE): file " + empty + ": is empty"},
		{nil, []string{"--key-file", dir}, exitUsage, "is a directory"},
		{nil, nil, exitUsage, "API key"},
	} {
		var out bytes.Buffer
		args := append([]string{"--server", server}, row.args...)
		args = append(args, "create", "--json=-", "--idempotency-key=K")
		code := run(t.Context(), args, func(k string) string { return row.env[k] }, strings.NewReader(body), &out, &out)
		if code != row.code || !strings.Contains(out.String(), row.want) || strings.Contains(out.String(), "pl_test") {
			t.Errorf("%d: got %d and %s, want %d and %q without a key", i, code, &out, row.code, row.want)
		}
	}
	for _, request := range service.Requests() {
		if got := request.Authorization; got != "Bearer pl_test_file" {
			t.Errorf("got %q, want the key of the file without its newline", got)
		}
	}
}
