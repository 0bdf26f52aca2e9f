//go:build unix && !linux

package devstack

import "syscall"

// childAttributes returns the attributes of a child. Only Linux can tie the end
// of a child to ours; elsewhere guardChild does that.
func childAttributes(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{}
}

// guardChild makes the child end when this process does, however it ends. The
// function that it returns takes the guard away.
func guardChild(pid int, stop syscall.Signal) (release func()) {
	return startGuard(pid, stop)
}
