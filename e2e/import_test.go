package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// TestUsageImport imports a file: wrong, right, again, and after it was cut off by kill -9.
func TestUsageImport(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startAPI()
	acme := s.newTenant("Acme", "pro")
	yesterday := time.Now().UTC().AddDate(0, 0, -1)
	line := func(day time.Time, value string) string {
		return fmt.Sprintf("%s,evaluations,%s,%s\n", acme.id, day.Format(time.DateOnly), value)
	}
	const header = "organization_id,meter,day,value\n"
	write := func(name, content string) string {
		file := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		return file
	}

	step(t, "a broken file writes nothing")
	broken := write("broken.csv", header+line(yesterday, "5")+strings.Repeat(line(yesterday, "many"), 30))
	out, err := s.try("usage", "import", broken)
	require.Error(t, err)
	require.Contains(t, out, `line 3: value must be a whole number`)
	require.NotContains(t, out, `line 23:`, "the first 20 are shown")
	require.Contains(t, out, "nothing was written: 30 of 31 lines")
	require.Zero(t, s.recorded(acme))

	step(t, "25,000 lines are three chunks, written once")
	lines := 25_000
	file := write("usage.csv", "\ufeff"+strings.ReplaceAll(header+strings.Repeat(line(yesterday, "2"), lines), "\n", "\r\n"))
	var result struct{ Written, Repeated, Lines int }
	s.decode(s.tollgate("usage", "import", "--dry-run", file), &result)
	require.Zero(t, result.Written)
	require.Zero(t, s.recorded(acme))
	s.decode(s.tollgate("usage", "import", file), &result)
	require.Equal(t, lines, result.Written)
	require.EqualValues(t, 2*lines, s.recorded(acme))
	s.decode(s.tollgate("usage", "import", file), &result)
	require.Zero(t, result.Written)
	require.Equal(t, lines, result.Repeated)
	require.EqualValues(t, 2*lines, s.recorded(acme))
	s.tollgate("reconcile", "--from", yesterday.Format(time.DateOnly))

	step(t, "another file, whose second chunk is already there when it is cut off: the rest is written")
	jsonl := fmt.Sprintf(`{"organization_id":%q,"meter":"evaluations","day":%q,"value":"3"}`+"\n", acme.id, yesterday.Format(time.DateOnly))
	other := write("usage.jsonl", strings.Repeat(jsonl, lines))
	killed := s.command("usage", "import", other)
	require.NoError(t, killed.Start())
	require.Eventually(t, func() bool { return s.recorded(acme) > int64(2*lines) }, patience, 5*time.Millisecond)
	_ = killed.Process.Kill()
	_ = killed.Wait()
	s.decode(s.tollgate("usage", "import", other), &result)
	require.Equal(t, lines, result.Written+result.Repeated)
	require.EqualValues(t, 5*lines, s.recorded(acme))
	s.tollgate("reconcile", "--from", yesterday.Format(time.DateOnly))
}
