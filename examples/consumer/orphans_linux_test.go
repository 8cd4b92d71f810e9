package main

import "syscall"

// endWithUs has the kernel end a process when the test process that started it dies.
func endWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
