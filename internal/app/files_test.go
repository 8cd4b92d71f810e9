package app

import (
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/api"
)

// TestConnectionsWithin: clients get at most half of the files, and more is refused with what to
// do.
func TestConnectionsWithin(t *testing.T) {
	t.Parallel()
	const most = api.ConnectionsMaxDefault
	for _, row := range []struct{ wanted, files, want int }{
		{0, 1024, 512},
		{0, 1 << 20, most},
		{0, 1, 1},
		{0, 2 * most, most},
		{512, 1024, 512},
		{1, 1024, 1},
		{2 * most, 4 * most, 2 * most},
	} {
		if got, err := connectionsWithin(row.wanted, row.files); err != nil || got != row.want {
			t.Errorf("%d wanted of %d files: got %d and error %v, want %d", row.wanted, row.files, got, err, row.want)
		}
	}
	_, err := connectionsWithin(513, 1024)
	if err == nil || !strings.Contains(err.Error(), "at most 512") || !strings.Contains(err.Error(), "--connections") {
		t.Errorf("got error %v, want one that names the flag and 512", err)
	}
}
