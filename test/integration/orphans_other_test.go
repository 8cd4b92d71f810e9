//go:build !linux

package integration

import "syscall"

// endWithUs does nothing except on Linux. Elsewhere a process outlives tests that are killed.
func endWithUs() *syscall.SysProcAttr { return nil }
