//go:build unix && !linux

package matrix

import "syscall"

// endWithUs is for Linux. Elsewhere a process outlives tests that are killed.
func endWithUs() *syscall.SysProcAttr { return nil }
