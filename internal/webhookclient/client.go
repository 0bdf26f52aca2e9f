package webhookclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

// Config is what a [Client] is made from.
type Config struct {
	// AllowPrivate lets it connect to private addresses, and by http: for development.
	AllowPrivate bool
	// Timeout bounds one attempt, answer included. Zero: 15 s (Standard Webhooks recommends 15 to
	// 30 s).
	Timeout time.Duration
	// UserAgent is the header of that name. Empty: Tollgate-Webhooks.
	UserAgent string
	// Now tells the time, UTC. Nil: time.Now.
	Now func() time.Time
	// TLS is for tests; nil: the system's certificates.
	TLS *tls.Config
}

const (
	defaultTimeout   = 15 * time.Second
	dialTimeout      = 5 * time.Second
	maxHeaders       = 16 << 10
	maxBody          = 4 << 10
	longestAsked     = 7 * 24 * time.Hour
	defaultUserAgent = "Tollgate-Webhooks"
)

// Client sends events.
type Client struct {
	config Config
	http   *http.Client
}

// New makes a client.
func New(config Config) *Client {
	if config.Timeout == 0 {
		config.Timeout = defaultTimeout
	}
	if config.UserAgent == "" {
		config.UserAgent = defaultUserAgent
	}
	if config.Now == nil {
		config.Now = func() time.Time { return time.Now().UTC() }
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !config.AllowPrivate {
		dialer.Control = refusePrivate
	}
	transport := &http.Transport{
		// A proxy would connect where the guard doesn't see it.
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config.TLS,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  config.Timeout,
		MaxResponseHeaderBytes: maxHeaders,
		ForceAttemptHTTP2:      true,
		// The next event may be long after this one, and the name lead elsewhere by then.
		DisableKeepAlives: true,
	}
	return &Client{config: config, http: &http.Client{
		Transport: transport, Timeout: config.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Send makes one attempt: it signs the event's document with each secret that is in force, and
// posts it. Whatever comes of it is a response; an error is a mistake of this program's.
func (c *Client) Send(ctx context.Context, to webhooks.Endpoint, e events.Event) (webhooks.Response, error) {
	body, err := e.Document()
	if err != nil {
		return webhooks.Response{}, err
	}
	now := c.config.Now()
	signature, err := Sign(e.ID.String(), now, body, to.Secrets.Signing(now))
	if err != nil {
		return webhooks.Response{}, err
	}
	out := webhooks.Response{At: now}
	if err := webhooks.ValidateURL(to.URL, c.config.AllowPrivate); err != nil {
		// The settings may have been others when it was made.
		out.Error = err.Error()
		return out, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(body))
	if err != nil {
		out.Error = "the address can't be used"
		return out, nil
	}
	header := request.Header
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", c.config.UserAgent)
	header.Set(standardwebhooks.HeaderWebhookID, e.ID.String())
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	response, err := c.http.Do(request)
	out.Took = max(0, c.config.Now().Sub(now))
	if err != nil {
		out.Error = reason(err)
		return out, nil
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody))
	out.Took = max(0, c.config.Now().Sub(now))
	out.Status = response.StatusCode
	if !out.Delivered() {
		// Not a word of the body: it may be another server's secret.
		out.Error = fmt.Sprintf("%d %s", response.StatusCode, http.StatusText(response.StatusCode))
		out.RetryAfter = retryAfter(response.Header.Get("Retry-After"), now)
	}
	return out, nil
}

// Sign returns the header webhook-signature: a signature for each secret, parted by spaces.
func Sign(id string, at time.Time, body []byte, secrets []string) (string, error) {
	signatures := make([]string, 0, len(secrets))
	for _, secret := range secrets {
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return "", errors.New("a webhook secret is not of the form whsec_…")
		}
		signature, err := signer.Sign(id, at, body)
		if err != nil {
			return "", fmt.Errorf("sign event %s: %w", id, err)
		}
		signatures = append(signatures, signature)
	}
	return strings.Join(signatures, " "), nil
}

// reason says what went wrong in words that are for the endpoint's owner, who must not
// learn from them what is inside this network.
func reason(err error) string {
	var refused *net.DNSError
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrRefusedAddress):
		return ErrRefusedAddress.Error()
	case errors.As(err, &refused):
		return "the host's name can't be resolved"
	case errors.As(err, &certificate):
		return "the host's certificate is not valid"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	default:
		return "no connection, or no answer that is HTTP"
	}
}

// retryAfter reads the header Retry-After: seconds or a date (RFC 9110, 10.2.3). 0: it
// says nothing, or nothing that makes sense.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(strings.TrimSpace(header), 10, 64); err == nil {
		if seconds < 0 {
			return 0
		}
		return time.Duration(min(seconds, int64(longestAsked/time.Second))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), longestAsked)
}
