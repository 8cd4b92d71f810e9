package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// healthCheck is how often HAProxy checks a replica, and how many failures it needs.
var healthCheck = regexp.MustCompile(`inter \d+m?s fall \d+`)

// healthChecks returns the different settings of the health check in a text.
func healthChecks(text string) map[string]bool {
	found := map[string]bool{}
	for _, one := range healthCheck.FindAllString(text, -1) {
		found[one] = true
	}
	return found
}

// TestBalancer checks that docs/operations.md recommends the health check that docker-compose.yml
// uses, and that test/scale tests.
func TestBalancer(t *testing.T) {
	t.Parallel()
	all := ""
	for _, name := range []string{"docs/operations.md", "docker-compose.yml"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(healthChecks(string(text))) != 1 {
			t.Errorf("%s: got the health checks %v, want one", name, healthChecks(string(text)))
		}
		all += string(text)
	}
	if got := healthChecks(all); len(got) != 1 {
		t.Errorf("got the health checks %v, want the same in both", got)
	}
	if got := healthChecks("inter 1s fall 1, inter 500ms fall 2"); len(got) != 2 {
		t.Errorf("got %v of the control, want both", got)
	}
}
