package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrFolderInUse says that another process uses a folder of which there can be
// only one user.
var ErrFolderInUse = errors.New("in use by another process")

// fileLock is a lock on a file that the system gives back when the process ends,
// however it ends.
type fileLock struct {
	file *os.File
}

// tryLock takes the lock, or says who has it in an error that wraps
// ErrFolderInUse.
func tryLock(path string) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(file, 32))
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (process %s holds %s)", ErrFolderInUse, strings.TrimSpace(string(holder)), path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	lock := &fileLock{file: file}
	if err := lock.sign(); err != nil {
		lock.release()
		return nil, err
	}
	return lock, nil
}

// awaitLock takes the lock, waiting for its holder. It calls waiting once if it has to.
func awaitLock(ctx context.Context, path string, waiting func()) (*fileLock, error) {
	for first := true; ; first = false {
		lock, err := tryLock(path)
		if !errors.Is(err, ErrFolderInUse) {
			return lock, err
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// sign writes this process's number into the file, for the other's message.
func (l *fileLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("sign the lock file: %w", err)
	}
	if _, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("sign the lock file: %w", err)
	}
	return nil
}

// release gives the lock back. The file stays, as removing it would let two
// processes hold locks on different files of one name.
func (l *fileLock) release() {
	_ = l.file.Close()
}
