//go:build browser

package e2e_test

import (
	"archive/zip"
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/browsertest"
)

// TestBrowserStaff is the way of those who run a service, on what `tollgate dev` shows them.
func TestBrowserStaff(t *testing.T) {
	folder, ports := dataFolder(t), freePorts(t, "--port", "--temporal-port", "--temporal-ui-port", "--metrics-port", "--worker-port")
	d := startDev(t, folder, ports)
	t.Run("the first minutes", func(t *testing.T) { firstMinutes(t, d) })
	t.Run("finance closes a month", func(t *testing.T) { financeCloses(t, d) })
	t.Run("finance grants and voids credit", func(t *testing.T) { financeCredits(t, d) })
	t.Run("finance tries prices, and an administrator publishes them", func(t *testing.T) { triesPrices(t, d) })
	t.Run("an administrator publishes a price", func(t *testing.T) { administratorPublishes(t, d) })
	t.Run("an operator sees an instance die", func(t *testing.T) { operatorSees(t, d, folder, "127.0.0.1:"+ports["--temporal-port"]) })
}

// firstMinutes opens the one address, hits the limit by a button, upgrades as the tenant, and goes on. It is the film of README.
func firstMinutes(t *testing.T, d *devRun) {
	t.Helper()
	const hit, see, plan, upgrade = "form[action='/demo'] button", ".notice.bad button", ".notice.bad a", "form[action='/plan'] button:last-of-type"
	require.Contains(t, d.log.String(), "Open "+d.url+"/")
	w := browsertest.Open(t, d.url)
	film := w.Film()
	w.Go("/")
	w.Look("demo")
	film.Frame(time.Second, "")
	film.Frame(time.Second, hit)
	w.Click(hit, ".notice.bad")
	require.Contains(t, w.Text(".notice.bad"), "402")
	w.Look("demo-limit")
	film.Frame(2*time.Second, "")
	film.Frame(time.Second, see)
	w.Click(see, ".meters")
	w.Do(chromedp.WaitVisible(".notice.bad[role=alert]"))
	require.Contains(t, w.Text(".notice.bad"), "Simulations: 50 of 50")
	w.Look("usage-limit")
	film.Frame(1500*time.Millisecond, "")
	film.Frame(time.Second, plan)
	w.Visit("money-of-a-month", "/money")
	w.Go("/usage")
	w.Click(plan, ".tabs")
	w.Click(".tabs a", upgrade)
	film.Frame(1500*time.Millisecond, "")
	film.Frame(time.Second, upgrade)
	w.Click(upgrade, ".notice.good")
	film.Frame(1200*time.Millisecond, "")
	w.Click("nav a[href='/usage']", ".meters")
	for used := 51; used <= 53; used++ {
		status, _ := d.call(http.MethodPost, "/api/v1/usage", d.env["TOLLGATE_FREE_KEY"], map[string]any{"meter": "simulations", "quantity": 1})
		require.Equal(t, http.StatusOK, status, "the same request passes")
		w.Await(`[...document.querySelectorAll('.meter-figure strong')].some(e => e.textContent === '` + strconv.Itoa(used) + `')`)
		film.Frame(600*time.Millisecond, "")
	}
	film.Frame(1500*time.Millisecond, "")
	film.Keep("hit-the-limit")
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
	other.Go("/months/" + month)
	other.Click("a[href$='/deliveries']", "#counts")
	other.Look("deliveries")
	require.Contains(t, other.Text("div[aria-label=Deliveries]"), "pending", "nobody has a key of Stripe's")
	other.Click("div[aria-label=Deliveries] a[href*='/statements/']", ".steps, tfoot")
	other.Visit("months", "/months")
}

// triesPrices edits prices by the keyboard, is told what is wrong, and sees last month under them.
func triesPrices(t *testing.T, d *devRun) {
	t.Helper()
	const (
		evaluations = `[name="plans[0].price_books[0].prices[0].tiers[0].unit_price"]`
		flows       = `plans[0].price_books[0].prices[1].`
		fee         = `[name="plans[0].price_books[0].base_fee.amount"]`
	)
	w := browsertest.Open(t, d.url)
	w.SignIn(d.env["TOLLGATE_FINANCE_KEY"])
	w.Click("nav a[href='/prices']", "input[value=pro]")
	w.Look("prices-choose")
	w.Do(chromedp.Click("input[value=pro]"))
	w.Click("form.choose button", evaluations)
	w.Look("prices")
	w.Type(evaluations, "0.0004x")
	w.Do(chromedp.SendKeys(evaluations, "\r"), chromedp.WaitVisible(evaluations+"[aria-invalid]"))
	require.Contains(t, w.Text("div[role=alert]"), "Pro, USD, evaluations, tier 1, unit price")
	w.Look("prices-wrong")
	w.Type(evaluations, "0.0004")
	// Another model shows its fields at once, and keeps what was typed.
	w.Do(chromedp.SetValue(`[name="`+flows+`model"]`, "flat"), chromedp.Evaluate(`document.querySelector('[name="`+flows+`model"]').dispatchEvent(new Event('change', {bubbles: true}))`, nil),
		chromedp.WaitVisible(`[name="`+flows+`flat_fee"]`))
	w.Type(`[name="`+flows+`flat_fee"]`, "5")
	w.Await(`document.querySelector('` + evaluations + `').value === '0.0004'`)
	w.Do(chromedp.SendKeys(evaluations, "\r"), chromedp.WaitVisible("div[aria-label=Differences]"))
	require.Contains(t, w.Text("div[aria-label=Differences]"), "Demo Pro")
	require.Contains(t, w.Text("div[aria-label=Differences]"), "+", "last month would have cost more")
	require.Contains(t, w.Text("#result"), "An administrator publishes prices")
	w.Look("prices-tried")

	admin := browsertest.Open(t, d.url)
	admin.SignIn(d.env["TOLLGATE_ADMIN_KEY"])
	admin.Go("/prices?plan=enterprise")
	admin.Type(fee, "1200")
	admin.Click("button[value=try]", "button[value=publish]")
	admin.Look("prices-publish")
	admin.Click("button[value=publish]", ".notice.good")
	admin.Go("/plans/enterprise")
	require.Contains(t, admin.Text("div[aria-label=Changes]"), "1200")
}

// findDemo finds one demo organization by how its name begins.
func findDemo(w *browsertest.Window) {
	w.Do(chromedp.SendKeys("#search", "demo p"))
	w.Await(`document.querySelectorAll('#found tbody tr').length === 1`)
}

// financeCredits grants credit to an organization, is told what is wrong with an amount, and takes the rest back.
func financeCredits(t *testing.T, d *devRun) {
	t.Helper()
	w := browsertest.Open(t, d.url)
	w.SignIn(d.env["TOLLGATE_FINANCE_KEY"])
	w.Click("nav a[href='/credits']", "#search")
	findDemo(w)
	w.Look("credits")
	w.Click("#found a", "#amount")
	w.Type("#amount", "1,000")
	w.Type("#note", "paid ahead")
	w.Do(chromedp.SendKeys("#note", "\r"), chromedp.WaitVisible("#amount[aria-invalid]"))
	w.Look("credit-refused")
	w.Type("#amount", "1000.10")
	w.Do(chromedp.SendKeys("#note", "\r"), chromedp.WaitVisible(".notice.good"))
	require.Contains(t, w.Text(".figures"), "1,000.10 USD")
	w.Type("td input[name=note]", "by mistake")
	w.Look("credit")
	w.Click("td button.danger", "div[aria-label=Ledger] tbody tr:nth-child(2)")
	require.Contains(t, w.Text("div[aria-label=Ledger]"), "−1,000.10 USD")
	require.Contains(t, w.Text(".figures"), "0.00 USD")
}

// administratorPublishes makes and revokes a key, and publishes a price after having seen last month under it.
func administratorPublishes(t *testing.T, d *devRun) {
	t.Helper()
	w := browsertest.Open(t, d.url)
	w.SignIn(d.env["TOLLGATE_ADMIN_KEY"])
	w.Visit("organizations", "/organizations")
	findDemo(w)
	w.Click("#found a", "#key-name")
	w.Look("organization")
	w.Type("#key-name", "spare")
	w.Click("form[action$='/keys'] button", "code.secret")
	secret := w.Text("code.secret")
	status, _ := d.call(http.MethodGet, "/api/v1/usage", secret, nil)
	require.Equal(t, http.StatusOK, status)
	// The page before has a notice, too.
	w.Do(chromedp.Click("tr:last-child form[action^='/keys/'] button"), chromedp.WaitNotPresent("code.secret"), chromedp.WaitVisible(".notice.good"))
	status, _ = d.call(http.MethodGet, "/api/v1/usage", secret, nil)
	require.Equal(t, http.StatusUnauthorized, status)
	require.NotContains(t, w.Text("main"), secret)

	w.Visit("plans", "/plans")
	w.Click("a[href='/plans/pro']", "#document")
	w.Do(chromedp.Evaluate(`document.querySelector('#document').value = document.querySelector('#document').value.replaceAll('"0.0002"', '"0.0004"')`, nil))
	w.Click("button[value=check]", "button[value=publish]")
	w.Look("plan-check")
	require.Contains(t, w.Text("div[aria-label=Differences]"), "Demo Pro")
	require.Contains(t, w.Text("div[aria-label=Differences]"), "+", "last month would have cost more")
	w.Click("button[value=publish]", ".notice.good")
	require.Contains(t, w.Text("div[aria-label=Changes]"), "0.0004")
	w.Look("plan-versions")
	w.Visit("audit", "/audit")
	w.Click("tbody summary", "tbody li")
	w.Visit("keys-of-staff", "/keys")
}

// operatorSees an instance die that has usage which nobody has written, and the usage come back with its journal.
func operatorSees(t *testing.T, d *devRun, folder, temporal string) {
	t.Helper()
	journal := t.TempDir()
	s := &system{t: t, programs: programs, environment: append(os.Environ(),
		"TOLLGATE_DATABASE_URL="+d.env["TOLLGATE_DATABASE_URL"], "TOLLGATE_BLOB_URL=file://"+filepath.Join(folder, "blobs"),
		"TEMPORAL_ADDRESS="+temporal, "TEMPORAL_NAMESPACE=default", "TOLLGATE_JOURNAL_DIR="+journal,
		"TOLLGATE_FLUSH_INTERVAL=3s", "TOLLGATE_LOST_AFTER=15s", "TOLLGATE_MAX_DELAY=0")}
	key, pro := d.env["TOLLGATE_ENTERPRISE_KEY"], "/organizations/"+d.env["TOLLGATE_ENTERPRISE_ORG"]
	w := browsertest.Open(t, d.url)
	w.SignIn(d.env["TOLLGATE_ADMIN_KEY"])
	used := func() string {
		w.Go(pro)
		return w.Text(".meter-figure strong")
	}
	before := used()
	victim := s.start("api", "TOLLGATE_LISTEN")
	// Its flush loop runs: who dies before that is found an hour later.
	require.Eventually(t, func() bool {
		_, found := d.call(http.MethodGet, "/api/v1/instances", d.env["TOLLGATE_ADMIN_KEY"], nil)
		for _, i := range found["instances"].([]any) {
			status, _ := d.call(http.MethodPost, "/api/v1/instances/"+i.(map[string]any)["id"].(string)+"/flush", d.env["TOLLGATE_ADMIN_KEY"], nil)
			if i.(map[string]any)["status"] == "live" && status != http.StatusOK {
				return false
			}
		}
		return true
	}, patience, 100*time.Millisecond)
	status, _ := victim.call(http.MethodPost, "/api/v1/usage", key, map[string]any{"meter": "evaluations", "quantity": 1_234_567})
	require.Equal(t, http.StatusOK, status)
	victim.kill()
	w.Go("/instances")
	w.Await(`[...document.querySelectorAll('td strong.warn')].some(e => e.textContent === 'lost')`)
	w.Look("instances")
	require.Equal(t, before, used(), "what was acknowledged is in the journal alone")

	s.start("api", "TOLLGATE_LISTEN")
	w.Go("/instances")
	w.Await(`document.querySelectorAll("button").length >= 3 && [...document.querySelectorAll('tbody tr')].filter(e => e.textContent.includes('live')).length === 2`)
	require.Eventually(t, func() bool { return used() != before }, patience, 100*time.Millisecond, "its usage comes back")
	w.Go("/instances")
	w.Click("tr:has(.tag) form button", ".notice.good")
	w.Visit("quarantine", "/quarantine")
	w.Go("/reconcile")
	w.Click("main form button", "main .notice")
	require.Contains(t, w.Text("main .notice"), "All layers say the same")
	w.Look("reconcile")
}
