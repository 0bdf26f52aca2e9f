package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// overloadRig is an API on one core, a tenant that floods it, and others that don't.
type overloadRig struct {
	t        *testing.T
	system   *system
	api      *process
	flooding tenant
	polite   []tenant
	// pinned says that API and generators have a core each.
	pinned bool
	// acknowledged is what was acknowledged to each key.
	acknowledged map[string]int64
}

const (
	// floodItems is how many reports a request of the flood has: it costs the API several times
	// what it costs the generator, which can thus send twice what the API can take.
	floodItems = 20
	politeRate = 40
)

func newOverloadRig(t *testing.T, pinned bool) *overloadRig {
	t.Helper()
	r := &overloadRig{t: t, pinned: pinned, acknowledged: map[string]int64{}}
	r.system = newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	catalog := filepath.Join(t.TempDir(), "catalog.yaml")
	require.NoError(t, os.WriteFile(catalog, []byte(chaosCatalog), 0o600))
	r.system.environment = append(r.system.environment, "TOLLGATE_CATALOG="+catalog, "GOMAXPROCS=1")
	return r
}

// start starts the API, in the place of the one that there is. Every tenant is known to it.
func (r *overloadRig) start(maxDelay string) {
	r.t.Helper()
	if r.api != nil {
		r.api.stop()
	}
	r.api = r.system.startAPI("TOLLGATE_MAX_DELAY=" + maxDelay)
	if r.flooding.key == "" {
		r.flooding = r.system.newTenant("Flood", "open")
		for range 5 {
			r.polite = append(r.polite, r.system.newTenant("Polite", "open"))
		}
	}
	if r.pinned {
		require.NoError(r.t, exec.Command("taskset", "-acp", "0", strconv.Itoa(r.api.command.Process.Pid)).Run())
	}
	r.send(r.callers(politeRate, 4), 500*time.Millisecond).wait()
}

// callers are the polite ones, at a rate each.
func (r *overloadRig) callers(rate, connections int) (all []floodCaller) {
	for _, one := range r.polite {
		all = append(all, floodCaller{Key: one.key, Rate: rate, Connections: connections, Items: 1})
	}
	return all
}

// overloadTraffic is what callers send to a rig's API.
type overloadTraffic struct {
	*generator
	rig     *overloadRig
	callers []floodCaller
}

// send begins to send, and returns once it does.
func (r *overloadRig) send(callers []floodCaller, long time.Duration) overloadTraffic {
	r.t.Helper()
	core := -1
	if r.pinned {
		core = 1
	}
	return overloadTraffic{flood{strings.TrimPrefix(r.api.url, "http://"), long, callers}.begin(r.t, core), r, callers}
}

// wait waits for what came of it, and notes that.
func (o overloadTraffic) wait() []floodResult {
	o.t.Helper()
	results := o.generator.wait()
	for i, result := range results {
		o.rig.acknowledged[o.callers[i].Key] += result.Served * int64(o.callers[i].Items)
		require.Zero(o.t, result.Wrong, "neither served nor refused with Retry-After")
		require.Zero(o.t, result.Unanswered)
	}
	return results
}

// overloadFigures are what came of one flood.
type overloadFigures struct {
	flooding floodResult
	// polite is the median of the tenants that don't flood, by their p99.
	polite        floodResult
	politeRefused int64
	// said is whether the API said what was expected of it.
	said bool
	// memory is the most that the API had, in MiB.
	memory int
}

// flood floods for so long, by one tenant with so many connections, and looks how the others fare.
// All the while the API must be ready, and say at some time what it is.
func (r *overloadRig) flood(rate, connections int, long time.Duration, says string) (f overloadFigures) {
	r.t.Helper()
	flooding := r.send([]floodCaller{{Key: r.flooding.key, Rate: rate, Connections: connections, Items: floodItems}}, long)
	time.Sleep(long / 5)
	polite := r.send(r.callers(politeRate, 16), long*3/5)
	f.said = says == ""
	for running := true; running; {
		select {
		case <-flooding.ended:
			running = false
		case <-time.After(long / 20):
		}
		f.memory = max(f.memory, r.api.rss())
		status, answer := r.api.call("GET", "/readyz", "", nil)
		require.Equal(r.t, 200, status)
		f.said = f.said || answer["parts"].(map[string]any)["load"] == says
	}
	f.flooding = flooding.wait()[0]
	each := polite.wait()
	for _, one := range each {
		f.politeRefused += one.Refused
	}
	slices.SortFunc(each, func(a, b floodResult) int { return int(a.ServedIn.P99 - b.ServedIn.P99) })
	f.polite = each[len(each)/2]
	r.t.Logf("flood: %d served, %d refused in %s, %d never sent; polite: %s, %d refused; %d MiB",
		f.flooding.Served, f.flooding.Refused, f.flooding.RefusedIn, f.flooding.NotSent, f.polite.ServedIn, f.politeRefused, f.memory)
	return f
}

// requireStored holds that what was acknowledged is what is stored.
func (r *overloadRig) requireStored() {
	r.t.Helper()
	for _, one := range append(slices.Clone(r.polite), r.flooding) {
		require.Eventually(r.t, func() bool { return r.system.recorded(one) == r.acknowledged[one.key] }, 60*time.Second, 100*time.Millisecond,
			"%d were acknowledged", r.acknowledged[one.key])
	}
}

// rss is the memory of a process that is in use, in MiB.
func (p *process) rss() int {
	p.t.Helper()
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(p.command.Process.Pid)).Output()
	require.NoError(p.t, err)
	kib, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(p.t, err)
	return kib >> 10
}

// TestAFloodIsShedByTheProgram floods the program with one tenant, by a generator of its own: some
// of it is refused, others are served, and what is acknowledged is stored. How fair that is depends
// on what else the machine does: TestOverload holds it, and the Shedder's tests by a clock of their own.
func TestAFloodIsShedByTheProgram(t *testing.T) {
	t.Parallel()
	r := newOverloadRig(t, false)
	r.start("5ms")
	before := r.api.rss()
	f := r.flood(0, 400, 1500*time.Millisecond, "overloaded")
	// Where the machine has much else to do, the generators may be too slow.
	for range 30 {
		if f.said && f.flooding.Refused > 0 && f.flooding.Served > 0 && f.polite.Served > 0 {
			break
		}
		f = r.flood(0, 400, 1500*time.Millisecond, "overloaded")
	}
	require.True(t, f.said, "it is never said that the API is overloaded")
	require.Positive(t, f.flooding.Refused)
	require.Positive(t, f.flooding.Served)
	require.Positive(t, f.polite.Served)
	require.Less(t, f.memory, before+256)
	r.requireStored()
}

// TestOverload measures at twice what the API can take, with and without shedding, three floods
// of OVERLOAD_SECONDS each. `make overload` runs it, on a machine that is idle otherwise.
func TestOverload(t *testing.T) {
	long := time.Duration(setting(t, "OVERLOAD_SECONDS", 0)) * time.Second
	if long == 0 {
		// TestAFloodIsShedByTheProgram is its short form.
		return
	}
	_, err := exec.LookPath("taskset")
	r := newOverloadRig(t, err == nil && runtime.NumCPU() > 1)
	connections := int(setting(t, "OVERLOAD_CONNECTIONS", 1000))
	rate := 0
	for _, maxDelay := range []string{"0", "20ms"} {
		r.start(maxDelay)
		unloaded := r.api.rss()
		if rate == 0 {
			can := r.send([]floodCaller{{Key: r.flooding.key, Connections: 32, Items: floodItems}}, 2*time.Second).wait()[0]
			rate = int(can.Served)
			t.Logf("capacity: %d requests of %d reports a second; unloaded: %d MiB", rate/2, floodItems, unloaded)
		}
		var polite, refused []time.Duration
		memory := 0
		says := ""
		if maxDelay != "0" {
			says = "overloaded"
		}
		for range 3 {
			f := r.flood(rate, connections, long, says)
			require.True(t, f.said, "it is never said that the API is %s", says)
			polite, refused = append(polite, f.polite.ServedIn.P99), append(refused, f.flooding.RefusedIn.P50)
			memory = max(memory, f.memory)
		}
		slices.Sort(polite)
		slices.Sort(refused)
		t.Logf("--max-delay %s: polite p99 %s, refusals' p50 %s (medians of three); %d MiB, %d unloaded", maxDelay, polite[1], refused[1], memory, unloaded)
		if maxDelay != "0" {
			require.Less(t, polite[1], 100*time.Millisecond)
			require.Less(t, refused[1], 20*time.Millisecond)
			require.Less(t, memory, unloaded+50+connections/10)
		}
	}
	r.requireStored()
}
