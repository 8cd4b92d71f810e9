package main

import (
	"errors"
	"log/slog"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryRatio is the part of the memory of the process's cgroup that Go may use. The rest is for
// what the kernel keeps for it: buffers of connections, above all.
const memoryRatio = 0.8

// limitMemory has the garbage collector run more often when the heap comes near limit, the memory
// of the container. Otherwise the kernel would end the process. GOMEMLIMIT in the environment wins.
func limitMemory(logger *slog.Logger, limit memlimit.Provider) {
	bytes, err := memlimit.Set(memlimit.WithRatio(memoryRatio), memlimit.WithProvider(limit))
	switch {
	case errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
	case err != nil:
		logger.Warn("reading the memory limit of the cgroup failed; set GOMEMLIMIT", "error", err)
	case bytes != math.MaxInt64:
		logger.Info("memory limit", "bytes", bytes)
	}
}
