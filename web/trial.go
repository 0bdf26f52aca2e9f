package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/money"
)

const (
	// trialPage is how many organizations one request of a trial rates.
	trialPage = 1000
	// trialFor bounds a trial, keepTrial how long its result is kept after somebody looked at it.
	trialFor  = 10 * time.Minute
	keepTrial = 15 * time.Minute
	// maxTrials is how many are kept in this process, maxRunning how many run at once.
	maxTrials  = 8
	maxRunning = 2
	// keptDifferences is how many organizations of a currency a trial keeps: those of the largest differences.
	keptDifferences = 5000
	// keptUnpriced is how many it keeps that could not be compared.
	keptUnpriced = 500
)

// errTooManyTrials says that the process has enough to do.
var errTooManyTrials = gate.NewProblem(http.StatusTooManyRequests, "too_many_under_way",
	"Other prices are being tried. Each trial rates every organization: try again in a minute. Nothing of what you typed is lost.")

// errTrialCut says that a trial took too long, or was ended.
var errTrialCut = gate.NewProblem(http.StatusServiceUnavailable, gate.CodeUnavailable, "The trial did not come to its end. Try again.")

var errExportedAgain = gate.NewProblem(http.StatusConflict, "conflict", "The month was exported again meanwhile: try again.")

// trials are the prices that are tried, and were a moment ago, each for who tries them.
type trials struct {
	mu   sync.Mutex
	kept map[string]*trial
}

// trial is a month under other prices. It runs by itself, and bounds what it keeps.
type trial struct {
	// id is how a page finds it again, who the sign-in that it is for.
	id, who  string
	period   string
	proposed proposal
	cancel   context.CancelFunc
	done     chan struct{}

	mu      sync.Mutex
	used    time.Time
	totals  billing.DryRunTotals
	differ  map[money.Currency][]trialRow
	unable  []trialRow
	problem error
}

// trialRow is what one organization would have paid.
type trialRow struct {
	billing.DryRunOrganization
}

// find returns the one of an ID that somebody has.
func (t *trials) find(id, who string) *trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.kept[id]
	if !ok || found.who != who {
		return nil
	}
	return found
}

// begin starts one, unless the same is there. Another one of the same key is over.
func (t *trials) begin(who, period string, proposed proposal, now time.Time, look func(ctx context.Context, t *trial) error) (*trial, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	running := 0
	for id, one := range t.kept {
		switch {
		case one.who == who && one.period == period && one.proposed.digest() == proposed.digest() && one.failure() == nil:
			return one, nil
		case one.who == who || one.idle(now):
			one.cancel()
			delete(t.kept, id)
		case !one.ended():
			running++
		}
	}
	if running >= maxRunning || len(t.kept) >= maxTrials {
		return nil, errTooManyTrials
	}
	ctx, cancel := context.WithTimeout(context.Background(), trialFor)
	one := &trial{
		id: rand.Text(), who: who, proposed: proposed, period: period, cancel: cancel, used: now, done: make(chan struct{}), differ: map[money.Currency][]trialRow{},
	}
	t.kept[one.id] = one
	go func() {
		defer close(one.done)
		defer cancel()
		err := look(ctx, one)
		if ctx.Err() != nil {
			err = errTrialCut
		}
		one.mu.Lock()
		defer one.mu.Unlock()
		one.problem = err
		for c := range one.differ {
			one.differ[c] = largest(one.differ[c])
		}
	}()
	return one, nil
}

// stop ends all that run.
func (t *trials) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.kept {
		one.cancel()
	}
}

func (t *trial) ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

func (t *trial) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.problem
}

func (t *trial) idle(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(t.used) > keepTrial
}

// add counts a page of organizations.
func (t *trial) add(found []billing.DryRunOrganization) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range found {
		t.totals.Add(o)
		switch {
		case o.Difference == nil && len(t.unable) < keptUnpriced:
			t.unable = append(t.unable, trialRow{o})
		case o.Difference != nil && !o.Difference.IsZero():
			t.differ[o.Currency] = append(t.differ[o.Currency], trialRow{o})
			if len(t.differ[o.Currency]) >= 2*keptDifferences {
				t.differ[o.Currency] = largest(t.differ[o.Currency])
			}
		}
	}
}

// largest are the rows of the largest differences, the largest first.
func largest(rows []trialRow) []trialRow {
	slices.SortFunc(rows, func(a, b trialRow) int {
		return cmp.Or(b.Difference.Abs().Cmp(a.Difference.Abs()), strings.Compare(a.OrganizationName, b.OrganizationName),
			strings.Compare(a.Organization.String(), b.Organization.String()))
	})
	return slices.Clip(rows[:min(len(rows), keptDifferences)])
}

// tryPrices rates a month under a proposed catalog, page by page. It asks the API as who began it, and outlives his request.
func (v *visit) tryPrices(period string, proposed proposal) (*trial, error) {
	asking := *v
	request := v.r.Clone(context.Background())
	asking.w = &answer{header: http.Header{gate.HeaderRequestID: {v.requestID()}}}
	return v.pages.trials.begin(v.signIn.ID.String(), period, proposed, v.now, func(ctx context.Context, t *trial) error {
		asking.r = request.WithContext(ctx)
		_, err := asking.dryRun(period, proposed.catalog, trialPage, math.MaxInt, t.add)
		return err
	})
}

// dryRun rates a month under a proposed catalog, and has each page of organizations seen; more says that there were others. All
// pages are of one export.
func (v *visit) dryRun(period string, catalog gen.ProposedCatalog, size, pages int, see func([]billing.DryRunOrganization)) (more bool, err error) {
	next, run := "", ""
	for range pages {
		var found gen.DryRunPage
		if err := v.ask(http.MethodPost, "/billing/exports/"+period+"/dry-run", []string{"after", next, "limit", strconv.Itoa(size)}, catalog, &found); err != nil {
			return false, err
		}
		if run != "" && found.RunId != run {
			return false, errExportedAgain
		}
		run = found.RunId
		see(found.Organizations)
		if next = pageAfter(found.Next); next == "" {
			return false, nil
		}
	}
	return true, nil
}
