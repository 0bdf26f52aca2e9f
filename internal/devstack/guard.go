package devstack

import (
	"os/exec"
	"strconv"
	"syscall"
)

// guardScript waits until its standard input closes, which happens when the
// process at the other end dies, and then signals the guarded process.
const guardScript = `while read -r line; do :; done; kill -"$1" "$2"`

// startGuard starts a shell that signals the process pid when this process ends,
// for systems without a parent-death signal. If no shell can be started, the
// process is unguarded; the next start finds it and ends it.
func startGuard(pid int, stop syscall.Signal) (release func()) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "tollgate-guard", strconv.Itoa(int(stop)), strconv.Itoa(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return func() {}
	}
	if err := cmd.Start(); err != nil {
		_ = lifeline.Close()
		return func() {}
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = lifeline.Close()
		_ = cmd.Wait()
	}
}
