package buildinfo

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	recorded := &debug.BuildInfo{
		GoVersion: "go1.26.0",
		Main:      debug.Module{Version: "v0.1.0"},
		Settings:  []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
	}
	for name, row := range map[string]struct {
		version, commit string
		build           *debug.BuildInfo
		want            string
	}{
		"linker":   {"v0.2.0", "def", recorded, "v0.2.0 (commit def, go1.26.0)"},
		"go build": {"", "", recorded, "v0.1.0 (commit abc-dirty, go1.26.0)"},
		"nothing":  {"", "", &debug.BuildInfo{}, "unknown (commit unknown, unknown)"},
	} {
		if got := describe(row.version, row.commit, row.build).String(); got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
}
