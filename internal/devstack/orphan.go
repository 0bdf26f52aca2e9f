package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// commandHas reports whether the process pid is there and has the words among the
// arguments of its command line, one after the other.
func commandHas(ctx context.Context, pid int, words ...string) (bool, error) {
	arguments, err := commandLine(ctx, pid)
	if err != nil {
		return false, err
	}
	for i := 0; i+len(words) <= len(arguments); i++ {
		if slices.Equal(arguments[i:i+len(words)], words) {
			return true, nil
		}
	}
	return false, nil
}

// commandLine returns the arguments of a process, none if it isn't there. Linux
// gives them apart; elsewhere ps prints them in one line.
func commandLine(ctx context.Context, pid int) ([]string, error) {
	if _, err := os.Stat("/proc/self/cmdline"); err == nil {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look at process %d: %w", pid, err)
		}
		return strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00"), nil
	}
	output, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return strings.Fields(string(output)), nil
}

// orphan is a server that an earlier, killed run may have left behind.
type orphan struct {
	pid int
	// words stand in the command line of the server, and not in that of another
	// program that has got its number since.
	words []string
}

// running reports whether the server is there. A zombie, which no longer has a
// command line, isn't.
func (o orphan) running(ctx context.Context) (bool, error) {
	return commandHas(ctx, o.pid, o.words...)
}

// end ends the server: first with the signal, and with SIGKILL after the wait.
func (o orphan) end(ctx context.Context, signal syscall.Signal, wait time.Duration) error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{signal, wait}, {syscall.SIGKILL, killWait}} {
		if err := syscall.Kill(o.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end process %d, which an earlier run has left: %w", o.pid, err)
		}
		if ended, err := o.awaitEnd(ctx, step.wait); err != nil || ended {
			return err
		}
	}
	return fmt.Errorf("process %d, which an earlier run has left, does not end", o.pid)
}

// awaitEnd reports whether the server ends within the wait.
func (o orphan) awaitEnd(ctx context.Context, wait time.Duration) (bool, error) {
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		if running, err := o.running(ctx); err != nil || !running {
			return true, err
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("wait for the end of process %d: %w", o.pid, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false, nil
}
