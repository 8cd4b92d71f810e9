package matrix

import "syscall"

// endWithUs makes the kernel end a process of the tests when the tests die.
func endWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
