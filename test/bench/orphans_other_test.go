//go:build unix && !linux

package bench

import "syscall"

// endWithUs is for Linux; elsewhere a process outlives tests that are killed.
func endWithUs() *syscall.SysProcAttr { return nil }
