package e2e_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// floodVariable makes this program a generator of load: a process of its own, so that what it
// measures doesn't wait in the tests' scheduler. It reads a flood from standard input, writes a line
// to standard output when it begins, and then what came of each of its callers.
const floodVariable = "TOLLGATE_E2E_FLOOD"

// flood is the load of one generator.
type flood struct {
	Address string        `json:"address"`
	Long    time.Duration `json:"long"`
	Callers []floodCaller `json:"callers"`
}

// floodCaller sends requests at a rate, whether those before were answered or not.
type floodCaller struct {
	Key string `json:"key"`
	// Rate is in requests a second; 0: each connection sends as soon as it has its answer.
	Rate int `json:"rate"`
	// Connections is the most that it opens. What has none waits at the caller.
	Connections int `json:"connections"`
	// Items is how many reports each request has; 1: it is a POST /usage.
	Items int `json:"items"`
	// Keyed gives each report an idempotency key of its own.
	Keyed bool `json:"keyed"`
	// Path is where it sends one report to; empty: to the API.
	Path string `json:"path"`
}

// requests returns what makes each request of a connection. The bytes are good until the next.
func (c floodCaller) requests() func() []byte {
	const report = `{"meter":"evaluations","quantity":1`
	path := cmp.Or(c.Path, "/api/v1/usage")
	if c.Items > 1 {
		path += "/batch"
	}
	body := func(into []byte, prefix string, n int) []byte {
		for i := range c.Items {
			into = append(append(into, ','), report...)
			if c.Keyed {
				into = append(append(into, `,"idempotency_key":"`...), prefix...)
				into = append(strconv.AppendInt(into, int64(n*c.Items+i), 10), '"')
			}
			into = append(into, '}')
		}
		return into
	}
	head := func(into []byte, length int) []byte {
		return fmt.Appendf(into, "POST %s HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, c.Key, length)
	}
	whole := func(request, items []byte) []byte {
		items = items[1:] // Each has a comma before it.
		if c.Items == 1 {
			return append(head(request, len(items)), items...)
		}
		return append(append(append(head(request, len(items)+2), '['), items...), ']')
	}
	if !c.Keyed {
		always := whole(nil, body(nil, "", 0))
		return func() []byte { return always }
	}
	var request, items []byte
	prefix, n := uuid.NewString()+"-", 0
	return func() []byte {
		items = body(items[:0], prefix, n)
		request = whole(request[:0], items)
		n++
		return request
	}
}

// floodResult is what came of a caller's requests.
type floodResult struct {
	Served  int64 `json:"served"`
	Refused int64 `json:"refused"`
	// Wrong counts answers that are neither, and refusals without Retry-After.
	Wrong int64 `json:"wrong"`
	// Unanswered counts what was sent and got no answer.
	Unanswered int64 `json:"unanswered"`
	// NotSent counts what waited at the caller until the end.
	NotSent int64 `json:"not_sent"`
	// ServedIn is the time from when a request should have been sent until it was served,
	// RefusedIn from when it was written until it was refused.
	ServedIn  quantiles `json:"served_in"`
	RefusedIn quantiles `json:"refused_in"`
}

// quantiles are of times.
type quantiles struct{ P50, P99, P999, Most time.Duration }

func quantilesOf(times []time.Duration) quantiles {
	if len(times) == 0 {
		return quantiles{}
	}
	slices.Sort(times)
	return quantiles{times[len(times)/2], times[len(times)*99/100], times[len(times)*999/1000], times[len(times)-1]}
}

// String is for logs.
func (q quantiles) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, most %s", q.P50.Round(10*time.Microsecond), q.P99.Round(10*time.Microsecond), q.Most.Round(10*time.Microsecond))
}

// generate is the whole of a generator's process.
func generate() int {
	var f flood
	if err := json.NewDecoder(os.Stdin).Decode(&f); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("begins")
	results := make([]floodResult, len(f.Callers))
	var callers sync.WaitGroup
	for i := range f.Callers {
		callers.Go(func() { results[i] = f.Callers[i].send(f.Address, f.Long) })
	}
	callers.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// floodTally collects what the connections of a caller saw.
type floodTally struct {
	mu              sync.Mutex
	result          floodResult
	served, refused []time.Duration
}

// send sends for so long and returns what came of it.
func (c floodCaller) send(address string, long time.Duration) floodResult {
	due := make(chan time.Time, 1<<20)
	until := time.Now().Add(long)
	tally := &floodTally{}
	var connections sync.WaitGroup
	for range c.Connections {
		connections.Go(func() { c.connection(address, due, until, tally) })
	}
	if c.Rate > 0 {
		began, sent := time.Now(), 0
		for now := began; now.Before(until); now = time.Now() {
			for wanted := 1 + int(now.Sub(began).Seconds()*float64(c.Rate)); sent < wanted; sent++ {
				due <- began.Add(time.Duration(sent) * time.Second / time.Duration(c.Rate))
			}
			time.Sleep(time.Millisecond)
		}
	} else {
		time.Sleep(time.Until(until))
	}
	close(due)
	connections.Wait()
	tally.result.ServedIn, tally.result.RefusedIn = quantilesOf(tally.served), quantilesOf(tally.refused)
	return tally.result
}

// connection sends what is due, one request after the other.
func (c floodCaller) connection(address string, due <-chan time.Time, until time.Time, tally *floodTally) {
	next := c.requests()
	var mine floodTally
	var conn net.Conn
	reader := bufio.NewReader(nil)
	for {
		at := time.Now()
		if c.Rate > 0 {
			when, more := <-due
			if !more {
				break
			}
			at = when
		}
		if !time.Now().Before(until) {
			if c.Rate == 0 {
				break
			}
			mine.result.NotSent++
			continue
		}
		if conn == nil {
			var err error
			if conn, err = net.Dial("tcp", address); err != nil {
				mine.result.NotSent++
				conn = nil
				continue
			}
			reader.Reset(conn)
		}
		written := time.Now()
		_ = conn.SetDeadline(written.Add(time.Minute))
		status, retryAfter, closes, err := exchange(conn, reader, next())
		switch {
		case err != nil:
			mine.result.Unanswered++
		case status == 200:
			mine.result.Served++
			mine.served = append(mine.served, time.Since(at))
		case status == 503 && retryAfter:
			mine.result.Refused++
			mine.refused = append(mine.refused, time.Since(written))
		default:
			mine.result.Wrong++
		}
		if err != nil || closes {
			_ = conn.Close()
			conn = nil
		}
	}
	if conn != nil {
		_ = conn.Close()
	}
	tally.add(&mine)
}

func (t *floodTally) add(o *floodTally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Served += o.result.Served
	t.result.Refused += o.result.Refused
	t.result.Wrong += o.result.Wrong
	t.result.Unanswered += o.result.Unanswered
	t.result.NotSent += o.result.NotSent
	t.served, t.refused = append(t.served, o.served...), append(t.refused, o.refused...)
}

// exchange sends a request and reads as much of its answer as matters. It costs far less than
// the answer, so that one core floods another.
func exchange(conn net.Conn, reader *bufio.Reader, request []byte) (status int, retryAfter, closes bool, err error) {
	if _, err = conn.Write(request); err != nil {
		return 0, false, false, err
	}
	length, chunked := 0, false
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return 0, false, false, err
		}
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		switch {
		case first && len(line) < 13:
			return 0, false, false, errors.New("no status line")
		case first:
			status, err = strconv.Atoi(string(line[9:12]))
		case len(name) == 0:
			if chunked {
				// The chunks end with an empty line.
				if _, err = io.Copy(io.Discard, httputil.NewChunkedReader(reader)); err == nil {
					_, err = reader.ReadSlice('\n')
				}
			} else {
				_, err = reader.Discard(length)
			}
			return status, retryAfter, closes, err
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("Retry-After")):
			retryAfter = true
		case bytes.EqualFold(name, []byte("Connection")):
			closes = strings.EqualFold(string(bytes.TrimSpace(value)), "close")
		}
		if err != nil {
			return 0, false, false, err
		}
	}
}

// generator is a process that sends a flood.
type generator struct {
	t       *testing.T
	command *exec.Cmd
	// ended is closed once it has written what came of the flood, or has died.
	ended   chan struct{}
	written []byte
	err     error
}

// begin starts a generator, and returns once it sends: on a busy machine that takes seconds. Where
// a core is given, it is pinned to it.
func (f flood) begin(t *testing.T, core int) *generator {
	t.Helper()
	in, err := json.Marshal(f)
	require.NoError(t, err)
	program, err := os.Executable()
	require.NoError(t, err)
	g := &generator{t: t, command: exec.Command(program), ended: make(chan struct{})}
	if core >= 0 {
		g.command = exec.Command("taskset", "-c", strconv.Itoa(core), program)
	}
	g.command.Env = append(os.Environ(), floodVariable+"=1")
	g.command.Stdin, g.command.Stderr = bytes.NewReader(in), os.Stderr
	out, err := g.command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, g.command.Start())
	t.Cleanup(func() { _ = g.command.Process.Kill() })
	reader := bufio.NewReader(out)
	_, err = reader.ReadString('\n')
	require.NoError(t, err, "the generator never began")
	go func() {
		defer close(g.ended)
		g.written, g.err = io.ReadAll(reader)
	}()
	return g
}

// wait waits for what came of each caller.
func (g *generator) wait() []floodResult {
	g.t.Helper()
	<-g.ended
	require.NoError(g.t, g.err)
	require.NoError(g.t, g.command.Wait())
	var results []floodResult
	require.NoError(g.t, json.Unmarshal(g.written, &results), string(g.written))
	return results
}
