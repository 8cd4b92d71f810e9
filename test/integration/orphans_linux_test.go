package integration

import "syscall"

// endWithUs lets the kernel end a process that the tests started when they die themselves, so that
// none is left behind.
func endWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
