// Package e2e_test runs the programs as an operator would, on a real Postgres and a
// real Temporal server, and breaks them.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/pgstore"
)

func TestMain(m *testing.M) {
	if os.Getenv(floodVariable) != "" {
		os.Exit(generate())
	}
	pgtest.Main(temporaltest.Wrap(&withPrograms{m}))
}

// withPrograms builds the programs before the tests and removes them after.
type withPrograms struct{ *testing.M }

// programs has the programs, racing the API and the worker as the race detector watches them.
// It doubles their work: tests of much work and little at once have the plain ones.
var programs, racing string

// Run builds, runs and cleans up.
func (w *withPrograms) Run() int {
	folder, err := os.MkdirTemp("", "tollgate-e2e-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	programs, racing = folder, folder
	if err := build(programs, "../cmd/api", "../cmd/worker", "../cmd/tollgate"); err != nil {
		return 1
	}
	if raceDetector {
		racing = filepath.Join(folder, "racing")
		if err := build(racing, "-race", "../cmd/api", "../cmd/worker"); err != nil {
			return 1
		}
	}
	if err := atOnce(max(leastAtOnce, runtime.GOMAXPROCS(0))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return w.M.Run()
}

// build builds programs into a folder, without what debuggers need: it takes half of a link's time.
func build(folder string, args ...string) error {
	command := exec.Command("go", append([]string{"build", "-ldflags=-s -w", "-o", folder + "/"}, args...)...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	err := command.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
	}
	return err
}

// leastAtOnce is how many tests run at once on a small machine: most of their time they wait
// for intervals, timers and processes, and not for a core.
const leastAtOnce = 6

// atOnce lets so many tests run at once, unless -parallel says how many.
func atOnce(tests int) error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(tests))
}

// endAtOnce is for programs that end by themselves. The race detector holds each up for a
// second at its end, to see what goes on meanwhile; in these nothing does.
func endAtOnce() string { return "GORACE=" + os.Getenv("GORACE") + " atexit_sleep_ms=0" }

// system is one installation: a database, a namespace, and the processes on them.
type system struct {
	t           *testing.T
	environment []string
	database    *pgtest.Database
	adminKey    string
	financeKey  string
	// files is the limit of file descriptors of the programs that are started; 0: this one's.
	files int
	// programs is the folder of the programs that are started.
	programs string
	// reading is opened by the first that reads the store, as each connection costs a password's hash.
	reading *pgstore.Store
	opened  sync.Once
}

// store is what the test itself reads the database with.
func (s *system) store() *pgstore.Store {
	s.opened.Do(func() { s.reading = s.database.Open(s.t, pgstore.Config{}) })
	return s.reading
}

const flushInterval = 500 * time.Millisecond

func newSystem(t *testing.T, database *pgtest.Database, namespace temporaltest.Namespace) *system {
	t.Helper()
	s := &system{t: t, database: database, programs: racing}
	s.environment = append(os.Environ(),
		"TOLLGATE_DATABASE_URL="+database.APIURL,
		"TOLLGATE_BLOB_URL=file://"+filepath.Join(t.TempDir(), "blobs"),
		"TOLLGATE_JOURNAL_DIR="+filepath.Join(t.TempDir(), "journal"),
		// The machine of the tests is often too busy; each request here counts.
		"TOLLGATE_MAX_DELAY=0",
		"TOLLGATE_FLUSH_INTERVAL="+flushInterval.String(),
		"TOLLGATE_LOG_FORMAT=json",
		"TEMPORAL_ADDRESS="+namespace.Address,
		"TEMPORAL_NAMESPACE="+namespace.Name,
	)
	s.adminKey = strings.TrimSpace(s.tollgate("keys", "first-admin"))
	return s
}

// newPlainSystem is a system whose programs the race detector doesn't watch.
func newPlainSystem(t *testing.T, database *pgtest.Database, namespace temporaltest.Namespace) *system {
	t.Helper()
	s := newSystem(t, database, namespace)
	s.programs = programs
	return s
}

// tollgate runs the command and returns what it printed.
func (s *system) tollgate(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	require.NoError(s.t, err, "tollgate %s: %s", strings.Join(args, " "), out)
	return out
}

func (s *system) try(args ...string) (string, error) {
	command := s.command(args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return stderr.String(), err
	}
	return string(out), nil
}

// command is the command with the system's environment, not started yet.
func (s *system) command(args ...string) *exec.Cmd {
	command := exec.Command(filepath.Join(programs, "tollgate"), args...)
	command.Env = append(s.environment, "TOLLGATE_ADMIN_KEY="+s.adminKey, "TOLLGATE_FINANCE_KEY="+s.financeKey, endAtOnce())
	return command
}

// process is a running program.
type process struct {
	t    *testing.T
	name string
	url  string
	// metrics is where the program's metrics are.
	metrics string
	command *exec.Cmd
	// journal is the folder of an API's journal.
	journal string
	log     *syncBuffer
	ended   chan struct{}
}

// start runs a program with its HTTP port on a free one, and waits until it is ready.
func (s *system) start(name, listenVariable string, environment ...string) *process {
	s.t.Helper()
	p := s.launch(name, listenVariable, freeAddress(s.t), environment...)
	p.awaitReady()
	return p
}

func (s *system) launch(name, listenVariable, address string, environment ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, name: name, url: "http://" + address, log: &syncBuffer{}, ended: make(chan struct{})}
	p.command = exec.Command(filepath.Join(s.programs, name))
	if s.files > 0 {
		p.command = exec.Command("/bin/sh", "-c", `ulimit -n "$0" && exec "$1"`, strconv.Itoa(s.files), filepath.Join(s.programs, name))
	}
	p.metrics = p.url + "/metrics"
	own := []string{listenVariable + "=" + address}
	if name == "api" {
		apart := freeAddress(s.t)
		p.metrics = "http://" + apart + "/metrics"
		own = append(own, "TOLLGATE_METRICS_LISTEN="+apart)
	}
	p.command.Env = slices.Concat(s.environment, own, environment)
	p.command.Stdout, p.command.Stderr = p.log, p.log
	require.NoError(s.t, p.command.Start())
	go func() {
		defer close(p.ended)
		_ = p.command.Wait()
	}()
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			s.t.Logf("--- %s\n%s", name, p.log.tail(60))
		}
	})
	return p
}

func (s *system) startAPI(environment ...string) *process {
	s.t.Helper()
	journal := s.t.TempDir()
	p := s.start("api", "TOLLGATE_LISTEN", append([]string{"TOLLGATE_JOURNAL_DIR=" + journal}, environment...)...)
	p.journal = journal
	s.environment = append(s.environment, "TOLLGATE_URL="+p.url)
	return p
}

func (s *system) startWorker() *process {
	s.t.Helper()
	return s.start("worker", "TOLLGATE_WORKER_LISTEN")
}

func (p *process) awaitReady() {
	p.t.Helper()
	require.True(p.t, p.becomesReady(patience), "%s is not ready: %s", p.name, p.log)
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// stop asks the process to end and waits for it.
func (p *process) stop() {
	p.t.Helper()
	require.Zero(p.t, p.end(), "%s: %s", p.name, p.log)
}

// end is stop, and returns the exit code.
func (p *process) end() int {
	p.t.Helper()
	require.NoError(p.t, p.command.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.ended:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%s does not stop: %s", p.name, p.log.tail(30))
	}
	return p.command.ProcessState.ExitCode()
}

// patience is how long a test waits for what must come: a machine may be that busy.
const patience = 2 * time.Minute

// step names what a long story does from here on: a failure's log ends with where it was.
func step(t *testing.T, name string) {
	t.Helper()
	t.Log("step:", name)
}

// freeAddress returns a loopback address on which nothing listens, and which no
// connection takes as its source meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := devstack.FreeAddress()
	require.NoError(t, err)
	return address
}

// call sends JSON and returns the status and the decoded answer. It tries again where it is told to,
// as long as patience lasts.
func (p *process) call(method, path, key string, in any) (int, map[string]any) {
	p.t.Helper()
	var answer map[string]any
	status := patiently(func() (status int) {
		var err error
		status, answer, err = p.tryCall(context.Background(), method, path, key, in)
		require.NoError(p.t, err)
		return status
	})
	return status, answer
}

// patiently sends again where it is told to, as long as patience lasts, and returns the last status.
func patiently(send func() int) int {
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if status := send(); status != http.StatusServiceUnavailable || time.Now().After(end) {
			return status
		}
	}
}

func (p *process) tryCall(ctx context.Context, method, path, key string, in any) (int, map[string]any, error) {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil && !errors.Is(err, io.EOF) {
		return response.StatusCode, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return response.StatusCode, answer, nil
}

// tenant is an organization with a key.
type tenant struct {
	id  uuid.UUID
	key string
}

// newTenant makes an organization on a plan, and a key for it, with the command.
func (s *system) newTenant(name, plan string) tenant {
	s.t.Helper()
	var organization struct {
		ID uuid.UUID `json:"id"`
	}
	s.decode(s.tollgate("org", "create", "--name", name, "--plan", plan, "--json"), &organization)
	return tenant{id: organization.ID, key: s.newKey("tenant", "--organization", organization.ID.String())}
}

func (s *system) newKey(role string, more ...string) string {
	s.t.Helper()
	var made struct {
		Secret string `json:"secret"`
	}
	create := append([]string{"keys", "create", "--role", role, "--name", "for tests", "--json"}, more...)
	if role != "tenant" {
		// Each key is another person's: who requests can't approve.
		create = append(create, "--owner", uuid.NewString()+"@example.com")
	}
	s.decode(s.tollgate(create...), &made)
	require.NotEmpty(s.t, made.Secret)
	return made.Secret
}

func (s *system) decode(text string, into any) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal([]byte(text), into), text)
}

// syncBuffer is a log that a process writes and a test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns all that was written.
func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(b.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// jsonBody encodes a request's body.
func jsonBody(in any) io.Reader {
	encoded, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	return bytes.NewReader(encoded)
}
