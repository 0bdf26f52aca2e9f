package pgtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Backup is a base backup of a [Server], with the write-ahead log that it needs.
type Backup struct{ dir string }

// BackUp makes a base backup while the server runs, by PostgreSQL's low-level API
// (documentation of PostgreSQL 15, section 26.3.3).
func (s *Server) BackUp(t testing.TB) *Backup {
	t.Helper()
	folder, err := newFolder()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	b := &Backup{dir: filepath.Join(folder, "data")}
	// The session must last from the start of the backup to its end.
	conn, err := pgx.Connect(t.Context(), s.process.URL("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	_, err = conn.Exec(t.Context(), `SELECT pg_backup_start('pgtest', true)`)
	require.NoError(t, err)
	copyFolder(t, s.process.DataDir(), b.dir)
	var label string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT labelfile FROM pg_backup_stop(false)`).Scan(&label))
	// The log is copied last: it must reach up to the end of the backup.
	require.NoError(t, os.RemoveAll(filepath.Join(b.dir, "pg_wal")))
	copyFolder(t, filepath.Join(s.process.DataDir(), "pg_wal"), filepath.Join(b.dir, "pg_wal"))
	// Written over a copy, it belongs to whom the server runs as.
	copyFolder(t, filepath.Join(b.dir, "PG_VERSION"), filepath.Join(b.dir, "backup_label"))
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "backup_label"), []byte(label), 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(b.dir, "postmaster.pid")))
	return b
}

// Restore ends the server as a crash does and starts it on a backup: what was committed since
// is gone.
func (s *Server) Restore(t testing.TB, b *Backup) {
	t.Helper()
	dir := s.process.DataDir()
	s.Crash(t)
	require.NoError(t, os.RemoveAll(dir))
	copyFolder(t, b.dir, dir)
	s.Start(t)
}

// copyFolder copies with owners and modes. Files may change and go meanwhile.
func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput()
	if err == nil {
		return
	}
	_, err = os.Stat(to)
	require.NoError(t, err, "%s", out)
}
