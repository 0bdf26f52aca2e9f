//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockFolder takes a folder for this journal alone. The kernel lets the lock go
// with the process, however that ends. The file bears the process's id, for people, and in its second
// line the file's own name in the system: original says that it was there, so that the folder is no
// copy, and who had it has ended.
func lockFolder(dir string) (_ *os.File, original bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // The folder is the operator's choice.
	if err != nil {
		return nil, false, fmt.Errorf("lock journal folder: %w", err)
	}
	err = uninterrupted(func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := holderOf(f)
		_ = f.Close()
		return nil, false, fmt.Errorf("%w: %s, by process %s", ErrLocked, dir, holder)
	}
	if err == nil {
		_, name := holderOf(f)
		original = name != "" && name == ownName(f)
		err = f.Truncate(0)
	}
	if err == nil {
		// What the file says is for people: a full disk must not keep the lock from being taken.
		_, _ = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
		if original {
			nameFile(f)
		}
		return f, original, nil
	}
	_ = f.Close()
	return nil, false, fmt.Errorf("lock journal folder: %w", err)
}

// holderOf reads what a lock's file bears: the process, and the file's name.
func holderOf(f *os.File) (process, name string) {
	text := make([]byte, 128)
	n, _ := f.ReadAt(text, 0)
	process, name, _ = strings.Cut(string(text[:n]), "\n")
	return strings.TrimSpace(process), strings.TrimSpace(name)
}

// ownName is what the system knows a file by; a copy has another one. Empty: it isn't known.
func ownName(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("file %d:%d", stat.Dev, stat.Ino)
}

// nameFile writes a lock file's own name into it. Where that fails, the next process asks the store.
func nameFile(f *os.File) {
	_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n%s\n", os.Getpid(), ownName(f)), 0)
}
