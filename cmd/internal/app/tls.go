package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/riverline/tollgate/internal/connections"
)

// TLS says how the API proves who it is. Without it, a proxy before the API does.
type TLS struct {
	TLSCert string `name:"tls-cert" type:"path" env:"TOLLGATE_TLS_CERT" placeholder:"FILE" help:"Certificate of the API, PEM, with those that lead to its authority: the API then speaks TLS 1.2 or 1.3, and HTTP/1.1. It is read anew when it changes. Default: no TLS; a proxy before the API has it."`
	TLSKey  string `name:"tls-key" type:"path" env:"TOLLGATE_TLS_KEY" placeholder:"FILE" help:"Key of the certificate, PEM."`
}

// Validate checks the settings.
func (t TLS) Validate() error {
	if (t.TLSCert == "") != (t.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together: only one of them is set")
	}
	return nil
}

// openCertificate reads the certificate, if there is one, and returns what makes a server show it. The server
// speaks HTTP/1.1 alone then: callers are bounded by their connections, and over HTTP/2 one connection
// would have hundreds of requests under way.
func (t TLS) openCertificate() (secure func(*http.Server), err error) {
	if t.TLSCert == "" {
		return func(*http.Server) {}, nil
	}
	certificate, err := connections.OpenCertificate(t.TLSCert, t.TLSKey, slog.Default().With("service", apiService))
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return func(server *http.Server) {
		server.TLSConfig = certificate.Config()
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
	}, nil
}
