package devstack

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// passwordFile is the file in the data folder that holds the superuser's password.
	passwordFile = "tollgate.password"
	// orphanWait is how long a server that a killed process left behind may take to end.
	orphanWait = 30 * time.Second
)

// sharedDataRoot is where root keeps data folders that Postgres's user could not
// reach where they were asked for.
const sharedDataRoot = "/var/lib/tollgate-dev"

// postgresData is a data folder and the user who owns it.
type postgresData struct {
	dir     string
	account *account
	// major is the version of Postgres that made the data, 0 if there is none yet.
	major int
}

// placeData decides where the data is and whose it is. When root starts Postgres,
// the data must be where Postgres's own user can reach it.
func placeData(dataDir string, output io.Writer) (postgresData, error) {
	account, err := postgresAccount(dataDir)
	if err != nil {
		return postgresData{}, err
	}
	data := postgresData{dir: dataDir, account: account}
	if err := os.MkdirAll(filepath.Dir(data.dir), 0o755); err != nil {
		return postgresData{}, fmt.Errorf("make the data folder's parent: %w", err)
	}
	reached, err := data.reachable()
	if err != nil {
		return postgresData{}, err
	}
	if !reached {
		hash := sha256.Sum256([]byte(dataDir))
		data.dir = filepath.Join(sharedDataRoot, hex.EncodeToString(hash[:6]), filepath.Base(dataDir))
		_, _ = fmt.Fprintf(output, "Postgres runs as user %s, who can't enter %s: its data is in %s\n", account.name, dataDir, data.dir)
		if err := os.MkdirAll(filepath.Dir(data.dir), 0o755); err != nil {
			return postgresData{}, fmt.Errorf("make the data folder's parent: %w", err)
		}
	}
	data.major, err = dataMajor(data.dir)
	return data, err
}

// reachable reports whether the owner can use a folder beside the data folder.
func (d postgresData) reachable() (bool, error) {
	if d.account == nil {
		return true, nil
	}
	probe, err := os.MkdirTemp(filepath.Dir(d.dir), ".probe-")
	if err != nil {
		return false, fmt.Errorf("try the data folder's parent: %w", err)
	}
	defer func() { _ = os.Remove(probe) }()
	if err := d.account.own(probe); err != nil {
		return false, err
	}
	return d.account.reaches(probe), nil
}

// errForeignData says that a folder holds something else than a server's data.
var errForeignData = errors.New("is not empty and holds no Postgres data")

// dataMajor returns the version of Postgres that made a data folder, or 0 if the
// folder is missing or empty.
func dataMajor(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case errors.Is(err, fs.ErrPermission):
		return 0, fmt.Errorf("the data folder %s belongs to another user: start Tollgate as the user (or root) who made it, or remove it", dir)
	case err != nil:
		return 0, fmt.Errorf("the data folder can't be read: %w", err)
	case len(entries) == 0:
		return 0, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("the data folder %s %w", dir, errForeignData)
	}
	if err != nil {
		return 0, fmt.Errorf("the data folder %s can't be read: %w", dir, err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("the data folder %s is broken: its PG_VERSION says %q", dir, text)
	}
	return major, nil
}

// create makes the database cluster. It does so in a folder beside the final one
// and renames that, so that a kill leaves no half-made data folder.
func (d postgresData) create(ctx context.Context, install postgresInstall, durable bool) error {
	building := d.dir + ".new"
	if err := os.RemoveAll(building); err != nil {
		return fmt.Errorf("remove what an interrupted start left: %w", err)
	}
	if err := d.initialize(ctx, install, building, durable); err != nil {
		return errors.Join(err, os.RemoveAll(building))
	}
	if err := os.Remove(d.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := os.Rename(building, d.dir); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	return nil
}

// initialize runs initdb on an empty folder.
func (d postgresData) initialize(ctx context.Context, install postgresInstall, dir string, durable bool) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	// initdb wants its folder empty, so the password waits beside it.
	password := dir + ".password"
	if err := os.WriteFile(password, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the superuser's password: %w", err)
	}
	defer func() { _ = os.Remove(password) }()

	args := []string{
		"--pgdata=" + dir, "--username=" + superuser, "--pwfile=" + password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if durable {
		args = append(args, "--data-checksums")
	} else {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, install.program("initdb"), args...)
	cmd.Env = postgresEnvironment()
	cmd.Dir = string(os.PathSeparator)
	if d.account != nil {
		if err := errors.Join(d.account.own(dir), d.account.own(password)); err != nil {
			return err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.account.credential()}
	}
	if printed, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb could not make the data folder %s: %w", d.dir, commandError(ctx, err, string(printed)))
	}
	if err := os.Rename(password, filepath.Join(dir, passwordFile)); err != nil {
		return fmt.Errorf("keep the superuser's password: %w", err)
	}
	return nil
}

// password reads the superuser's password.
func (d postgresData) password() (string, error) {
	text, err := os.ReadFile(filepath.Join(d.dir, passwordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the data folder %s was not made by Tollgate (it has no %s): give another folder", d.dir, passwordFile)
	}
	if err != nil {
		return "", fmt.Errorf("read the superuser's password: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// endOrphan ends a server that a killed process has left on the data folder. The
// caller holds the folder's lock, so nobody uses that server any more.
func (d postgresData) endOrphan(ctx context.Context) error {
	pidFile := filepath.Join(d.dir, "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("see whether a server was left on the data folder: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return fmt.Errorf("the data folder %s is broken: its postmaster.pid begins with %q", d.dir, first)
	}
	left := orphan{pid: pid, words: []string{"-D", d.dir}}
	running, err := left.running(ctx)
	if err != nil {
		return err
	}
	if running {
		return left.end(ctx, syscall.SIGINT, orphanWait)
	}
	// Another program may have got the number meanwhile. Postgres would refuse to
	// start if that runs as the same user.
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the stale postmaster.pid: %w", err)
	}
	return nil
}
