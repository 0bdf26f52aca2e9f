package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// command runs the command with what dev.env has, as the README does.
func (d *devRun) tollgate(args ...string) (string, error) {
	command := exec.Command(filepath.Join(programs, "tollgate"), args...)
	command.Env = append(os.Environ(), endAtOnce())
	for name, value := range d.env {
		command.Env = append(command.Env, name+"="+value)
	}
	for i, arg := range args {
		// As in a shell: NAME=value before the command.
		if name, value, found := strings.Cut(arg, "="); found && i == 0 {
			command.Env = append(command.Env, name+"="+value)
			command.Args = append(command.Args[:1], args[1:]...)
		}
	}
	out, err := command.CombinedOutput()
	return string(out), err
}

func (d *devRun) must(args ...string) string {
	d.t.Helper()
	out, err := d.tollgate(args...)
	require.NoError(d.t, err, "tollgate %s: %s", strings.Join(args, " "), out)
	return out
}

// walkTheDocuments runs what the documents say, README's close of the two months first that the demo has behind it.
func (d *devRun) walkTheDocuments() {
	d.t.Helper()
	said := d.runDocuments()
	for _, what := range []string{"Demo Pro", "Base fee, plan Pro", "Evaluations", "Simulations", "Storage", "Prepaid credit", "100,000 included"} {
		require.Contains(d.t, said, what)
	}
	first := time.Now().UTC()
	d.requirePlausible(time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, -1, 0).Format("2006-01"))
}

// requirePlausible holds that the demo's statements are not empty, that Free stays within
// its limits, and that Enterprise is above its minimum.
func (d *devRun) requirePlausible(month string) {
	d.t.Helper()
	store, err := pgstore.Open(d.t.Context(), pgstore.Config{URL: d.env["TOLLGATE_DATABASE_URL"]})
	require.NoError(d.t, err)
	defer store.Close()
	period, err := calendar.ParsePeriod(month)
	require.NoError(d.t, err)
	var export billing.Export
	// Who approves waits until the statements are issued; their delivery may take a moment more.
	require.Eventually(d.t, func() bool {
		export, err = store.Export(d.t.Context(), period)
		return err == nil && export.Stage == billing.StageClosed
	}, 20*time.Second, 50*time.Millisecond)
	for variable, least := range map[string]int64{"TOLLGATE_PRO_ORG": 150, "TOLLGATE_ENTERPRISE_ORG": 1501} {
		statement, err := store.Statement(d.t.Context(), export.ID, uuid.MustParse(d.env[variable]))
		require.NoError(d.t, err)
		require.True(d.t, statement.Subtotal.GreaterThan(decimal.NewFromInt(least)), "%s: %s", variable, statement.Subtotal)
	}
	free, _ := plans.Default().Plan("free")
	records, err := store.UsageRange(d.t.Context(), uuid.MustParse(d.env["TOLLGATE_FREE_ORG"]), calendar.DayOf(period.Start()), calendar.DayOf(time.Now())-1, "")
	require.NoError(d.t, err)
	require.NotEmpty(d.t, records)
	for _, r := range records {
		require.LessOrEqual(d.t, r.Value, free.Entitlement(r.Meter).Max, r.Meter)
	}
}
