package integration

import "syscall"

// endWithUs has the kernel kill a process when the tests that started it die. So none is left
// behind.
func endWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
