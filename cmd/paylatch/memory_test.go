package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// TestLimitMemory: Go gets a part of the container's memory. What the operator sets wins, and a
// limit that cannot be read changes nothing.
func TestLimitMemory(t *testing.T) {
	const container, before = 1 << 30, 7 << 30
	fails := func() (uint64, error) { return 0, errors.New("permission denied") }
	none := func() (uint64, error) { return 0, memlimit.ErrNoCgroup }
	for name, row := range map[string]struct {
		limit       memlimit.Provider
		environment string
		want        int64
		log         string
	}{
		"Container": {memlimit.Limit(container), "", container * 8 / 10, `"msg":"memory limit","bytes":858993459`},
		"Set":       {memlimit.Limit(container), "2GiB", before, `"bytes":7516192768`},
		"Unlimited": {memlimit.Limit(math.MaxUint64), "", math.MaxInt64, ""},
		"NoCgroup":  {none, "", before, ""},
		"Fails":     {fails, "", before, `"level":"WARN"`},
	} {
		t.Run(name, func(t *testing.T) {
			former := debug.SetMemoryLimit(before)
			t.Cleanup(func() { debug.SetMemoryLimit(former) })
			if row.environment != "" {
				t.Setenv("GOMEMLIMIT", row.environment)
			}
			var log bytes.Buffer
			limitMemory(slog.New(slog.NewJSONHandler(&log, nil)), row.limit)
			if got := debug.SetMemoryLimit(-1); got != row.want {
				t.Errorf("got a limit of %d bytes, want %d", got, row.want)
			}
			if !strings.Contains(log.String(), row.log) || row.log == "" && log.Len() > 0 {
				t.Errorf("got log %q, want %q in it", log.String(), row.log)
			}
		})
	}
}
