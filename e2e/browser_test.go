//go:build browser

package e2e_test

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/browsertest"
)

// TestBrowserStaff is the way of those who run a service, on what `tollgate dev` shows them.
func TestBrowserStaff(t *testing.T) {
	d := startDev(t, dataFolder(t), freePorts(t, "--port", "--temporal-port", "--temporal-ui-port", "--metrics-port", "--worker-port"))
	t.Run("finance", func(t *testing.T) { financeCloses(t, d) })
}

// financeCloses closes the demo's two months: one person begins and reviews, another one approves.
func financeCloses(t *testing.T, d *devRun) {
	t.Helper()
	first := time.Now().UTC()
	first = time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC)
	before, month := first.AddDate(0, -2, 0).Format("2006-01"), first.AddDate(0, -1, 0).Format("2006-01")
	one, other := browsertest.Open(t, d.url), browsertest.Open(t, d.url)
	one.SignIn(d.env["TOLLGATE_FINANCE_KEY"])
	other.SignIn(d.env["TOLLGATE_FINANCE2_KEY"])
	begin := func(period string) {
		one.Go("/months")
		one.Type("#period", period)
		one.Click("form[action='/months'] button", ".stages")
	}
	approve := func(period string) {
		other.Go("/months/" + period)
		other.Type("#note", "as expected")
		other.Click("button[value=approve]", ".notice.good")
		other.Await(`document.querySelector('.facts strong').textContent === 'closed'`)
	}
	await := func(stage string) {
		one.Await(`document.querySelector('.facts strong').textContent === '` + stage + `'`)
	}

	begin(before)
	await("awaiting approval")
	approve(before)

	// The next one differs: its stage moves by itself.
	begin(month)
	await("reviewing")
	one.Do(chromedp.WaitVisible("button[value=review]"))
	one.Look("month")
	require.Contains(t, one.Text("main"), "Demo Pro")
	require.Contains(t, one.Text("div[aria-label='Differences']"), "usage +", "it used more")
	one.Click("div[aria-label='Differences'] tbody a", "details")
	one.Look("month-statement")
	one.Click("tbody summary", "ol.steps")
	require.Contains(t, one.Text("ol.steps"), "=", "a line has its arithmetic")
	one.Click(".back a", "#note")
	one.Type("#note", "Pro used twice as much")
	one.Click("button[value=review]", ".notice.good")
	await("awaiting approval")
	one.Type("#note", "my own")
	one.Click("button[value=approve]", ".notice.bad")
	require.Contains(t, one.Text(".notice.bad"), "requested")
	approve(month)

	other.Go("/months/" + month)
	other.Look("month-closed")
	packed := other.Download("a[href$='files.zip']", "tollgate-"+month+".zip")
	files, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.CopyFS(folder, files))
	d.must("export", "verify", filepath.Join(folder, "tollgate-"+month))
	other.Visit("months", "/months")
}
