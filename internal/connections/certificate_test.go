package connections

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair makes a certificate for 127.0.0.1 that signs itself, and its key.
func pair(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// files are those of a certificate.
type files struct{ cert, key string }

func newFiles(t *testing.T, cert, key []byte) files {
	t.Helper()
	folder := t.TempDir()
	f := files{filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")}
	f.write(t, cert, key)
	return f
}

func (f files) write(t *testing.T, cert, key []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(f.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(f.key, key, 0o600))
}

func TestACertificateIsReplaced(t *testing.T) {
	first, firstKey := pair(t, 1)
	second, secondKey := pair(t, 2)
	f := newFiles(t, first, firstKey)
	var log bytes.Buffer
	c, err := OpenCertificate(f.cert, f.key, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	now := time.Now()
	serial := func(after time.Duration) int64 { return c.at(now.Add(after)).Leaf.SerialNumber.Int64() }
	require.EqualValues(t, 1, serial(0))
	f.write(t, second, firstKey)
	require.EqualValues(t, 1, serial(time.Second), "handshakes don't read the files each time")
	require.EqualValues(t, 1, serial(lookEvery), "half of a new pair is no pair")
	require.EqualValues(t, 1, serial(2*lookEvery))
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("can't be used")), "it is said once: %s", &log)
	f.write(t, second, secondKey)
	require.EqualValues(t, 2, serial(3*lookEvery))
	require.NoError(t, os.Remove(f.key))
	require.EqualValues(t, 2, serial(4*lookEvery), "files that are gone end nothing")
	f.write(t, first, firstKey)
	require.EqualValues(t, 1, serial(5*lookEvery))
}

// Kubernetes writes a secret into a folder of its own, and leads a link there anew: what is named by
// the settings keeps its own time of change, and it happens more than once.
func TestACertificateIsReplacedBehindALink(t *testing.T) {
	mount := t.TempDir()
	link := filepath.Join(mount, "..data")
	publish := func(serial int64) {
		cert, key := pair(t, serial)
		f := newFiles(t, cert, key)
		require.NoError(t, os.Symlink(filepath.Dir(f.cert), link+"_tmp"))
		require.NoError(t, os.Rename(link+"_tmp", link))
	}
	publish(1)
	for _, name := range []string{"tls.crt", "tls.key"} {
		require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)))
	}
	c, err := OpenCertificate(filepath.Join(mount, "tls.crt"), filepath.Join(mount, "tls.key"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	now := time.Now()
	for serial := range int64(3) {
		publish(serial + 2)
		now = now.Add(lookEvery)
		require.Equal(t, serial+2, c.at(now).Leaf.SerialNumber.Int64())
	}
}

func TestACertificateThatIsNoneIsRefused(t *testing.T) {
	cert, key := pair(t, 1)
	_, other := pair(t, 2)
	for name, f := range map[string]files{
		"another key":    newFiles(t, cert, other),
		"nothing":        newFiles(t, nil, nil),
		"no certificate": newFiles(t, key, key),
		"no file":        {cert: "/nowhere", key: "/nowhere"},
	} {
		_, err := OpenCertificate(f.cert, f.key, nil)
		require.ErrorContains(t, err, f.cert, name)
		require.NotContains(t, err.Error(), string(key))
	}
}

// What the listener does to connections, it does to those with TLS: an idle one makes room, one with
// a request doesn't, and of one that is crowded out only probes are answered.
func TestConnectionsWithTLSAreBounded(t *testing.T) {
	cert, key := pair(t, 1)
	f := newFiles(t, cert, key)
	c, err := OpenCertificate(f.cert, f.key, nil)
	require.NoError(t, err)
	opened, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener := Limit(opened, 1)
	release, entered := make(chan struct{}), make(chan struct{}, 1)
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		TLSConfig:         c.Config(),
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				entered <- struct{}{}
				<-release
			}
		}),
	}
	listener.Serve(server, func(r *http.Request) bool { return r.URL.Path == "/livez" })
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		_ = server.Close()
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(cert))
	get := func(ctx context.Context, path string, config *tls.Config) (int, error) {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+opened.Addr().String()+path, http.NoBody)
		require.NoError(t, err)
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode, response.Body.Close()
	}
	trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	held := make(chan int, 1)
	go func() {
		status, _ := get(t.Context(), "/hold", trusting)
		held <- status
	}()
	<-entered
	time.Sleep(evictAfter + 100*time.Millisecond)
	status, err := get(t.Context(), "/other", trusting)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, status)
	status, err = get(t.Context(), "/livez", trusting)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	close(release)
	require.Equal(t, http.StatusOK, <-held, "a request that is under way isn't cut")
	require.Zero(t, listener.Counts().Evicted)

	old := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	_, err = get(t.Context(), "/livez", old)
	require.ErrorContains(t, err, "protocol version")
}
