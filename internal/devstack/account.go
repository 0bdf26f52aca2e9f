package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is a user of this system that is not the one of this process.
type account struct {
	name string
	uid  uint32
	gid  uint32
}

// credential is what a child process needs to run as the account.
func (a *account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own gives the account a file or a folder.
func (a *account) own(path string) error {
	if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, a.name, err)
	}
	return nil
}

// reaches reports whether the account can enter the folder and write into it.
func (a *account) reaches(folder string) bool {
	cmd := exec.Command("/bin/sh", "-c", `cd "$1" && test -w .`, "sh", folder)
	cmd.Dir = string(os.PathSeparator)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential()}
	return cmd.Run() == nil
}

// serverAccounts are the users as which Postgres may run when root starts it, the
// first existing one is taken.
var serverAccounts = []string{"postgres", "nobody"}

// postgresAccount returns the user as which to run Postgres on the data folder.
// It is nil, which means the user of this process, except for root: Postgres
// refuses to run as root. Root uses the owner of existing data, so that data
// which a user made stays that user's.
func postgresAccount(dataDir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // No account is an answer.
	}
	if info, err := os.Stat(filepath.Join(dataDir, "PG_VERSION")); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			return &account{name: "#" + strconv.FormatUint(uint64(stat.Uid), 10), uid: stat.Uid, gid: stat.Gid}, nil
		}
	}
	for _, name := range serverAccounts {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		return newAccount(found)
	}
	return nil, errors.New("postgres must not run as root, and this system has neither a user \"postgres\" nor \"nobody\": start Tollgate as another user")
}

// newAccount reads the numbers of a user.
func newAccount(found *user.User) (*account, error) {
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s has the number %q: %w", found.Username, found.Uid, err)
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s has the group %q: %w", found.Username, found.Gid, err)
	}
	return &account{name: found.Username, uid: uint32(uid), gid: uint32(gid)}, nil
}
