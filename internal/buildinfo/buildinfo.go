// Package buildinfo knows which build of the project is running.
package buildinfo

import (
	"fmt"
	"runtime/debug"
)

// The linker sets these: see LDFLAGS in the Makefile, and the Dockerfile. A build without them
// falls back to what the Go tool has recorded.
var (
	version string
	commit  string
)

// unknown stands for what no build step has recorded.
const unknown = "unknown"

// Info describes a build.
type Info struct {
	// Version is the tag, or the description that `git describe` makes of the commit.
	Version string
	// Commit is the hash of the commit, with "-dirty" if the files differed from it.
	Commit string
	// Go is the version of the Go toolchain.
	Go string
}

// String returns the description in one line, as `paylatch version` prints it.
func (i Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s)", i.Version, i.Commit, i.Go)
}

// Read returns the description of the running program.
func Read() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return describe(version, commit, build)
}

// describe prefers what the linker set to what the Go tool recorded.
func describe(version, commit string, build *debug.BuildInfo) Info {
	info := Info{Version: version, Commit: commit, Go: build.GoVersion}
	if info.Version == "" {
		info.Version = build.Main.Version
	}
	if info.Commit == "" {
		info.Commit = recordedCommit(build.Settings)
	}
	for _, field := range []*string{&info.Version, &info.Commit, &info.Go} {
		if *field == "" {
			*field = unknown
		}
	}
	return info
}

// recordedCommit returns the commit that `go build` recorded; empty with -buildvcs=false.
func recordedCommit(settings []debug.BuildSetting) string {
	var revision, dirty string
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}
