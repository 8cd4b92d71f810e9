//go:build unix && !linux

package main

import "syscall"

// endWithUs does nothing outside Linux: there a process outlives tests that are killed.
func endWithUs() *syscall.SysProcAttr { return nil }
