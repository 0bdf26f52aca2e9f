package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// maxLogBytes is the size at which a log file is moved aside at the next start.
	maxLogBytes = 10 << 20
	// logTailBytes is how much of a log is read to explain a failure.
	logTailBytes = 8 << 10
	// killWait is how long a killed process may take to disappear.
	killWait = 5 * time.Second
)

// processConfig says how a server is started.
type processConfig struct {
	// name is what messages call the server.
	name string
	// path and args are the program and its arguments.
	path string
	args []string
	// env is the whole environment of the program.
	env []string
	// account is the user to run as; nil is the user of this process.
	account *account
	// logFile receives what the program prints. It is appended to.
	logFile string
	// stop is the signal that asks the program to end in an orderly way. The
	// program also gets it when this process dies.
	stop syscall.Signal
}

// process is a server that this process has started.
type process struct {
	config   processConfig
	child    *os.Process
	logStart int64
	done     chan struct{}
	// err is how the program ended. It may be read once done is closed.
	err error
}

// startProcess starts the program in a process group of its own, so that a
// terminal's Ctrl-C reaches only Tollgate, which needs its servers for the
// final flush.
func startProcess(config processConfig) (*process, error) {
	log, start, err := openLog(config.logFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(config.path, config.args...)
	cmd.Env = config.env
	cmd.Dir = string(os.PathSeparator)
	cmd.Stdout = log
	cmd.Stderr = log
	cmd.SysProcAttr = childAttributes(config.stop)
	cmd.SysProcAttr.Setpgid = true
	if config.account != nil {
		cmd.SysProcAttr.Credential = config.account.credential()
	}

	p := &process{config: config, logStart: start, done: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s (%s): %w", config.name, config.path, err)
	}
	return p, nil
}

// run starts the program and waits for its end on one locked thread: Linux ties
// the parent-death signal to the thread that created the child, so that thread
// must live as long as the child does.
func (p *process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.child = cmd.Process
	release := guardChild(p.child.Pid, p.config.stop)
	started <- nil
	p.err = cmd.Wait()
	release()
	close(p.done)
}

// stop asks the program to end, waits for that, and kills it when ctx ends
// first. It returns nil only if the program has ended in an orderly way.
func (p *process) stop(ctx context.Context) error {
	killed, err := p.end(ctx, p.config.stop)
	if err != nil || !killed {
		return err
	}
	return fmt.Errorf("%s did not stop in time and was killed: %w", p.config.name, context.Cause(ctx))
}

// crash has the program end without an orderly stop, and kills it when ctx ends first, which is a crash, too.
func (p *process) crash(ctx context.Context) error {
	_, err := p.end(ctx, syscall.SIGQUIT)
	return err
}

// end sends the program a signal, and says whether it had to be killed because ctx ended before it did.
func (p *process) end(ctx context.Context, signal syscall.Signal) (killed bool, err error) {
	p.signal(signal)
	select {
	case <-p.done:
		return false, nil
	case <-ctx.Done():
		return true, p.kill()
	}
}

// kill ends the program and everything in its process group at once.
func (p *process) kill() error {
	if !p.ended() {
		_ = syscall.Kill(-p.child.Pid, syscall.SIGKILL)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(killWait):
		return fmt.Errorf("%s (process %d) is still there after it was killed", p.config.name, p.child.Pid)
	}
}

// signal sends the program a signal; to one that has ended it does nothing.
func (p *process) signal(signal syscall.Signal) {
	_ = p.child.Signal(signal)
}

// ended reports whether the program has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// permanentError is an error of a readiness check that waiting won't cure.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// awaitReady calls ready until it returns nil. It returns early if the program
// ends, with the end of its log, and if ready returns a permanentError.
func (p *process) awaitReady(ctx context.Context, ready func(context.Context) error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if permanent := (permanentError{}); errors.As(err, &permanent) {
			return permanent.error
		}
		select {
		case <-p.done:
			return &exitError{name: p.config.name, log: p.config.logFile, tail: p.logTail()}
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (log: %s): %w", p.config.name, p.config.logFile, errors.Join(context.Cause(ctx), err))
		case <-ticker.C:
		}
	}
}

// logTail returns the last lines that the program has printed since this start.
func (p *process) logTail() string {
	file, err := os.Open(p.config.logFile)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(p.logStart, size-logTailBytes)
	text, err := io.ReadAll(io.NewSectionReader(file, from, size-from))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

// exitError says that a server ended while it was starting.
type exitError struct {
	name string
	log  string
	tail string
}

func (e *exitError) Error() string {
	return fmt.Sprintf("%s ended while it was starting (log: %s):\n%s", e.name, e.log, indent(e.tail))
}

// commandError says why a program that ctx may end has failed: that ctx has ended it,
// or what it printed last.
func commandError(ctx context.Context, err error, printed string) error {
	const shownLines = 15
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w\n%s", err, indent(lastLines(printed, shownLines)))
}

// openLog opens a log file for appending, and says where this start's part of
// it begins. A large one is moved aside first.
func openLog(path string) (*os.File, int64, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, 0, fmt.Errorf("move the old log aside: %w", err)
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open the log: %w", err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		_ = file.Close()
		return nil, 0, fmt.Errorf("open the log: %w", err)
	}
	return file, size, nil
}

// indent sets every line of a program's output off from our own text.
func indent(text string) string {
	if text == "" {
		text = "(it printed nothing)"
	}
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// lastLines returns the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// environmentWithout returns this process's environment without the variables
// that begin with one of the prefixes, so that settings meant for other programs
// don't reach a private server.
func environmentWithout(prefixes ...string) []string {
	var kept []string
	for _, entry := range os.Environ() {
		drop := false
		for _, prefix := range prefixes {
			drop = drop || strings.HasPrefix(entry, prefix)
		}
		if !drop {
			kept = append(kept, entry)
		}
	}
	return kept
}
