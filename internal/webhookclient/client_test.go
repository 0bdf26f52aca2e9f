package webhookclient_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/internal/webhookclient"
	"github.com/riverline/tollgate/webhooks"
)

func someEvent() events.Event {
	return events.Event{
		ID: uuid.Must(uuid.NewV7()), Key: "k", Kind: events.ExportIssued, OccurredAt: time.Now(), Data: json.RawMessage(`{"period":"2026-10"}`),
	}
}

func endpointAt(url string) webhooks.Endpoint {
	return webhooks.Endpoint{ID: uuid.Max, URL: url, Secrets: webhooks.Secrets{Current: webhooks.NewSecret()}}
}

// receiver is a server on loopback that answers as handle does.
func receiver(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL
}

func TestSendSigns(t *testing.T) {
	t.Parallel()
	e := someEvent()
	first := webhooks.Secrets{Current: webhooks.NewSecret()}
	rotated := first.Rotate(webhooks.NewSecret(), time.Now())
	var verified atomic.Int32
	url := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("webhook-id") != e.ID.String() || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v %v", err, r.Header)
		}
		for _, secret := range []string{first.Current, rotated.Current} {
			verifier, err := standardwebhooks.NewWebhook(secret)
			if err == nil && verifier.Verify(body, r.Header) == nil {
				verified.Add(1)
			}
		}
	})
	client := webhookclient.New(webhookclient.Config{AllowPrivate: true})
	to := endpointAt(url)
	to.Secrets = rotated
	out, err := client.Send(t.Context(), to, e)
	require.NoError(t, err)
	require.True(t, out.Delivered())
	require.Empty(t, out.Error)
	require.EqualValues(t, 2, verified.Load(), "during a rotation each secret verifies")

	to.Secrets.PreviousUntil = time.Now()
	_, err = client.Send(t.Context(), to, e)
	require.NoError(t, err)
	require.EqualValues(t, 3, verified.Load(), "after it, the new one alone")

	to.Secrets.Current = "whsec_!"
	_, err = client.Send(t.Context(), to, e)
	require.ErrorContains(t, err, "whsec_")
	require.NotContains(t, err.Error(), "!")
}

func TestSendResponses(t *testing.T) {
	t.Parallel()
	elsewhere := false
	other := receiver(t, func(http.ResponseWriter, *http.Request) { elsewhere = true })
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, other, http.StatusTemporaryRedirect)
		case "/busy":
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/later":
			w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusTooManyRequests)
		case "/odd":
			w.Header().Set("Retry-After", "-5")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		case "/endless":
			_, _ = io.Copy(w, io.LimitReader(neverEnding{}, 64<<20))
		case "/loud":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "the password is hunter2")
		case "/gone":
			w.WriteHeader(http.StatusGone)
		}
	})
	client := webhookclient.New(webhookclient.Config{AllowPrivate: true, Timeout: time.Second})
	for _, tc := range []struct {
		path   string
		status int
		says   string
		after  time.Duration
	}{
		{path: "/", status: 200},
		{path: "/redirect", status: 307, says: "307 Temporary Redirect"},
		{path: "/busy", status: 503, says: "503 Service Unavailable", after: 2 * time.Minute},
		{path: "/later", status: 429, says: "429 Too Many Requests", after: time.Hour},
		{path: "/odd", status: 429, says: "429 Too Many Requests"},
		{path: "/slow", says: "no answer in time"},
		{path: "/endless", status: 200},
		{path: "/loud", status: 500, says: "500 Internal Server Error"},
		{path: "/gone", status: 410, says: "410 Gone"},
	} {
		out, err := client.Send(t.Context(), endpointAt(url+tc.path), someEvent())
		require.NoError(t, err, tc.path)
		require.Equal(t, tc.status, out.Status, tc.path)
		require.Equal(t, tc.says, out.Error, tc.path)
		require.InDelta(t, tc.after.Seconds(), out.RetryAfter.Seconds(), 2, tc.path)
	}
	require.False(t, elsewhere, "no redirect is followed")
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// A name may lead anywhere, and elsewhere the next time: what counts is the address that is
// connected to.
func TestSendRefusesWhatIsNotPublic(t *testing.T) {
	t.Parallel()
	reached := false
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := webhookclient.New(webhookclient.Config{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	for _, tc := range []struct{ url, says string }{
		{server.URL, "url must name a host"},
		{"https://localhost" + port, "url must name a public host"},
		{"http://example.com" + port, "url must begin with https://"},
	} {
		out, err := client.Send(t.Context(), endpointAt(tc.url), someEvent())
		require.NoError(t, err)
		require.Zero(t, out.Status)
		require.Contains(t, out.Error, tc.says, tc.url)
	}
	require.False(t, reached)
	require.NoError(t, webhookclient.CheckAddress("8.8.8.8:443"))
	for _, address := range []string{server.Listener.Addr().String(), "[::1]:443", "[::ffff:10.0.0.1]:443", "169.254.169.254:80", "nonsense"} {
		require.ErrorIs(t, webhookclient.CheckAddress(address), webhookclient.ErrRefusedAddress, address)
	}
}
