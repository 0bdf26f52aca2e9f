package web

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/gate"
)

// visit is one request of a browser.
type visit struct {
	pages *Pages
	w     http.ResponseWriter
	r     *http.Request
	now   time.Time
	// token and signIn are those of the cookie, actor is whose key it is; empty where nobody is signed in.
	token  token
	signIn accounts.SignIn
	actor  accounts.Actor
	// once is the identity of the page's forms: a part that is shown anew has the same, and stays what it is.
	once string
}

func (v *visit) signedIn() bool { return v.token != "" }

// token is that of a sign-in.
type token accounts.SignInToken

func (t token) form() string { return accounts.SignInToken(t).FormToken() }

func (t token) hasForm(given string) bool {
	return subtle.ConstantTimeCompare([]byte(t.form()), []byte(given)) == 1
}

// answer takes what the API answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header returns the answer's header.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader takes the status, once.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write takes a part of the body.
func (a *answer) Write(part []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(part)
}

// get reads a resource of the API into out.
func (v *visit) get(out any, path string, query ...string) error {
	return v.ask(http.MethodGet, path, query, nil, out)
}

// send has the API change something. The form's own identity makes it happen once, however often it is sent.
func (v *visit) send(method, path string, in, out any) error {
	return v.ask(method, path, nil, in, out)
}

const (
	// waitForFirst is how long the second of two clicks waits for what the first does, askFirstEvery how often it asks.
	waitForFirst  = 10 * time.Second
	askFirstEvery = 100 * time.Millisecond
)

// ask has the API answer on behalf of the sign-in. What it refuses is a [*gate.Problem]. A query is pairs of names and values.
// A form that is sent twice has one answer, and the browser shows the one to the second click: it waits for the first.
func (v *visit) ask(method, path string, query []string, in, out any) error {
	for began := time.Now(); ; {
		err := v.askOnce(method, path, query, in, out)
		var problem *gate.Problem
		if !errors.As(err, &problem) || problem.Code != "request_under_way" || time.Since(began) > waitForFirst {
			return err
		}
		select {
		case <-time.After(askFirstEvery):
		case <-v.r.Context().Done():
			return err
		}
	}
}

func (v *visit) askOnce(method, path string, query []string, in, out any) error {
	request, err := v.request(method, path, query, in)
	if err != nil {
		return err
	}
	a := &answer{header: http.Header{}}
	v.pages.config.API.Ask(a, request, v.signIn.Secret, v.requestID())
	if a.status/100 != 2 {
		problem := &gate.Problem{Status: a.status}
		if err := json.Unmarshal(a.body.Bytes(), problem); err != nil {
			return fmt.Errorf("read the API's refusal of %s %s: %w", method, path, err)
		}
		return problem
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.body.Bytes(), out); err != nil {
		return fmt.Errorf("read the API's answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (v *visit) request(method, path string, query []string, in any) (*http.Request, error) {
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		if query[i+1] != "" {
			values.Set(query[i], query[i+1])
		}
	}
	body := io.Reader(http.NoBody)
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode a request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	target := url.URL{Path: "/api/v1" + path, RawQuery: values.Encode()}
	request, err := http.NewRequestWithContext(v.r.Context(), method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	request.RemoteAddr = v.r.RemoteAddr
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if once := v.r.PostFormValue("once"); method != http.MethodGet && once != "" {
		request.Header.Set("Idempotency-Key", once)
	}
	return request, nil
}

// pass answers the browser with a file as the API has it.
func (v *visit) pass(path string, query ...string) error {
	request, err := v.request(http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	v.pages.config.API.Ask(v.w, request, v.signIn.Secret, v.requestID())
	return nil
}

func (v *visit) requestID() string { return v.w.Header().Get(gate.HeaderRequestID) }

// own is a path below the visitor's organization.
func (v *visit) own(path string) string {
	return "/organizations/" + v.actor.Organization.String() + path
}

// redirect sends the browser on with GET.
func (v *visit) redirect(to string) error {
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// fail answers with a page that says what is wrong. Who isn't signed in is asked to.
func (v *visit) fail(err error) {
	var problem *gate.Problem
	var page *problemPage
	switch {
	case errors.As(err, &page):
	case unauthorized(err):
		if err := v.signedOut(); err != nil {
			v.logFailure(err)
		}
		return
	case errors.Is(err, errOlderForm):
		if err := v.olderForm(); err != nil {
			v.logFailure(err)
		}
		return
	case errors.As(err, &problem):
		page = &problemPage{Problem: problem}
	case v.r.Context().Err() != nil:
		// The browser is gone.
		v.w.WriteHeader(gate.StatusClientClosedRequest)
		return
	default:
		v.logFailure(err)
		problem = gate.NewProblem(http.StatusInternalServerError, gate.CodeInternal, "Something went wrong here. The log has the details under the request "+v.requestID()+".")
		page = &problemPage{Problem: problem}
	}
	v.showProblem(page)
}

func (v *visit) logFailure(err error) {
	v.pages.config.Logger.ErrorContext(v.r.Context(), "Page failed", "path", v.r.URL.Path, "request_id", v.requestID(), "error", err)
}

// isLoopback reports whether a request was sent to this machine by name.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
