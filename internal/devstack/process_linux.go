package devstack

import "syscall"

// childAttributes makes the kernel send the child the signal when the thread that
// started it ends, as it does when this process is killed.
func childAttributes(stop syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: stop}
}

// guardChild has nothing to do on Linux: see childAttributes.
func guardChild(int, syscall.Signal) (release func()) {
	return func() {}
}
