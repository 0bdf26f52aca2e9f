package e2e_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/stripetest"
)

// deleted is a customer that Stripe doesn't know any more.
const deleted = "cus_deleted"

// stripe stands before Stripe's mock, which keeps nothing, and does what Stripe does by its
// Idempotency-Key: what was made under one is answered again, and not made again.
type stripe struct {
	mock *httputil.ReverseProxy
	mu   sync.Mutex
	// made is what was sent to create something, by its key, in the order of keys; answers
	// is what the mock said.
	made    map[string]url.Values
	keys    []string
	answers map[string]*httptest.ResponseRecorder
	// asked counts all requests that create something.
	asked int
	// hold is called when a thing was made and before that is answered. May be nil.
	hold func(key string)
}

// startStripe starts it, and gives its address to the processes that are started from now on.
func (s *system) startStripe() *stripe {
	s.t.Helper()
	target, err := url.Parse(stripetest.Start(s.t))
	require.NoError(s.t, err)
	account := &stripe{
		mock: httputil.NewSingleHostReverseProxy(target), made: map[string]url.Values{}, answers: map[string]*httptest.ResponseRecorder{},
	}
	server := httptest.NewServer(account)
	s.t.Cleanup(server.Close)
	s.environment = append(s.environment, "TOLLGATE_STRIPE_KEY="+stripetest.Key, "TOLLGATE_STRIPE_URL="+server.URL)
	return account
}

// ServeHTTP answers as Stripe does.
func (a *stripe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	form, _ := url.ParseQuery(string(body))
	if form.Get("customer") == deleted || r.URL.Query().Get("customer") == deleted {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such customer"}}`)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	key := r.Header.Get("Idempotency-Key")
	if r.Method != http.MethodPost || key == "" {
		a.mock.ServeHTTP(w, r)
		return
	}
	answer := a.create(key, form, r)
	if hold := a.holding(); hold != nil {
		hold(key)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (a *stripe) create(key string, form url.Values, r *http.Request) *httptest.ResponseRecorder {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if known := a.answers[key]; known != nil {
		return known
	}
	answer := httptest.NewRecorder()
	a.mock.ServeHTTP(answer, r)
	if answer.Code == http.StatusOK {
		a.made[key], a.answers[key] = form, answer
		a.keys = append(a.keys, key)
	}
	return answer
}

func (a *stripe) holding() func(string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hold
}

// all returns the keys of what was made so far, and how often somebody asked to make something.
func (a *stripe) all() (keys []string, asked int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string{}, a.keys...), a.asked
}

// form returns what was sent to make something.
func (a *stripe) form(t *testing.T, key string) url.Values {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Contains(t, a.made, key)
	return a.made[key]
}

// holdAt holds the answer to what is made under a key, the first time, until it is let go.
// The channel is closed once it is made.
func (a *stripe) holdAt(key string) (held <-chan struct{}, let func()) {
	at, gone := make(chan struct{}), make(chan struct{})
	var once, onceGone sync.Once
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hold = func(made string) {
		if made == key {
			once.Do(func() { close(at) })
			<-gone
		}
	}
	return at, func() { onceGone.Do(func() { close(gone) }) }
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
