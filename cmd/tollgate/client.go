package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/riverline/tollgate/internal/config"
)

// server says where the API is.
type server struct {
	URL string `default:"http://127.0.0.1:8080" env:"TOLLGATE_URL" help:"The API."`
}

// Validate checks the address.
func (s server) Validate() error { return config.CheckHTTPURL("--url", s.URL) }

// check is Validate for commands that need a key, which may be set and empty.
func (s server) check(key string) error {
	if key == "" {
		return errors.New("--key is empty: it must be an API key, tg_…")
	}
	return s.Validate()
}

// adminAccess, financeAccess and tenantAccess reach the API with a key of that role.
type adminAccess struct {
	server
	Key string `required:"" secret:"" env:"TOLLGATE_ADMIN_KEY" placeholder:"KEY" help:"An admin key."`
}

// Validate checks the address and that there is a key.
func (a adminAccess) Validate() error { return a.check(a.Key) }

func (a adminAccess) client() *client { return newClient(a.URL, a.Key) }

type financeAccess struct {
	server
	Key string `required:"" secret:"" env:"TOLLGATE_FINANCE_KEY" placeholder:"KEY" help:"A finance key."`
}

// Validate checks the address and that there is a key.
func (a financeAccess) Validate() error { return a.check(a.Key) }

func (a financeAccess) client() *client { return newClient(a.URL, a.Key) }

type tenantAccess struct {
	server
	Key string `required:"" secret:"" env:"TOLLGATE_KEY,TOLLGATE_FREE_KEY" placeholder:"KEY" help:"The organization's key."`
}

// Validate checks the address and that there is a key.
func (a tenantAccess) Validate() error { return a.check(a.Key) }

func (a tenantAccess) client() *client { return newClient(a.URL, a.Key) }

// client calls the API.
type client struct {
	base, key string
	http      *http.Client
}

const callTimeout = 30 * time.Second

func newClient(base, key string) *client {
	return &client{base: strings.TrimSuffix(base, "/"), key: key, http: &http.Client{Timeout: callTimeout}}
}

// problem is an error that the API answered with (RFC 9457).
type problem struct {
	Code    string `json:"error"`
	Message string `json:"message"`
	status  int
}

// Error returns the API's own words.
func (p *problem) Error() string {
	if p.Message == "" {
		return fmt.Sprintf("the API answered %d %s", p.status, http.StatusText(p.status))
	}
	return fmt.Sprintf("%s (%s, %d)", p.Message, p.Code, p.status)
}

// call sends in, where it isn't nil, as JSON, and reads the answer into out, where
// that isn't nil. An answer that isn't 2xx is a *problem.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	return c.callOr(ctx, method, path, in, out, out)
}

// callOr is call, for what may take a second person: where it was proposed and not done, the answer is
// decoded into proposed, and out is left as it is.
func (c *client) callOr(ctx context.Context, method, path string, in, out, proposed any) error {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusAccepted {
		out = proposed
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return fmt.Errorf("read the API's answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("reach the API: %w", err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	failed := &problem{status: response.StatusCode}
	// Where the body isn't a problem document, the status alone must do.
	_ = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(failed)
	return nil, failed
}

// path joins segments, each escaped, below /api/v1.
func path(segments ...string) string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	return "/api/v1/" + strings.Join(escaped, "/")
}

type readyCommand struct{ server }

// Run asks /readyz.
func (c readyCommand) Run(ctx context.Context, out *output) error {
	if err := newClient(c.URL, "").call(ctx, http.MethodGet, "/readyz", nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "ready")
	return err
}
