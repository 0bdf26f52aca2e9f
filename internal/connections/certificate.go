package connections

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is the least time between two looks at the files of a certificate.
const lookEvery = 5 * time.Second

// Certificate is a certificate in files, which may be replaced while they are used: handshakes look
// whether they were, and go on with the pair before while the new one isn't whole. Make it with
// [OpenCertificate].
type Certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu        sync.Mutex
	cert, key []byte // what was tried last
	current   *tls.Certificate
	lookedAt  time.Time
}

// OpenCertificate reads a certificate with those that lead to its authority, and its key, both PEM.
// It fails where they can't be read or don't belong together. A nil logger is slog's default.
func OpenCertificate(certFile, keyFile string, logger *slog.Logger) (*Certificate, error) {
	if logger == nil {
		logger = slog.Default()
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	_, err := c.look()
	return c, err
}

// Config returns the settings of a server that shows the certificate: TLS 1.2 or 1.3.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.at(time.Now()), nil
		},
	}
}

// at returns the pair that counts, after a look at the files where the last one is long ago.
func (c *Certificate) at(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.lookedAt) < lookEvery {
		return c.current
	}
	c.lookedAt = now
	switch changed, err := c.look(); {
	case err != nil:
		c.logger.Error("The certificate was changed and can't be used: the one before is shown", "file", c.certFile, "error", err)
	case changed:
		c.logger.Info("The certificate was changed, and is shown from now on", "file", c.certFile, "until", c.current.Leaf.NotAfter)
	}
	return c.current
}

// look reads the files, and takes what is in them where that changed. Only what it hasn't tried fails.
func (c *Certificate) look() (changed bool, err error) {
	cert, certErr := os.ReadFile(c.certFile)
	key, keyErr := os.ReadFile(c.keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		return false, err
	}
	if c.current != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, nil
	}
	c.cert, c.key = cert, key
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("%s and %s: %w", c.certFile, c.keyFile, err)
	}
	c.current = &pair
	return true, nil
}
