//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockFolder takes a folder for this journal alone. The kernel lets the lock go
// with the process, however that ends. The file bears the process's id, for people.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // The folder is the operator's choice.
	if err != nil {
		return nil, fmt.Errorf("lock journal folder: %w", err)
	}
	err = uninterrupted(func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		return nil, fmt.Errorf("%w: %s, by process %s", ErrLocked, dir, strings.TrimSpace(string(holder)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		// What the file says is for people: a full disk must not keep the lock from being taken.
		_, _ = fmt.Fprintln(f, os.Getpid())
		return f, nil
	}
	_ = f.Close()
	return nil, fmt.Errorf("lock journal folder: %w", err)
}
