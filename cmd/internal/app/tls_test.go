package app

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTLSIsAChoice(t *testing.T) {
	var server http.Server
	secure, err := TLS{}.openCertificate()
	require.NoError(t, err)
	secure(&server)
	require.Nil(t, server.TLSConfig)
	_, err = TLS{TLSCert: "/nowhere", TLSKey: "/nowhere"}.openCertificate()
	require.ErrorContains(t, err, "--tls-cert, --tls-key: ")
	api := NewAPI(APIConfig{TLS: TLS{TLSCert: "/nowhere", TLSKey: "/nowhere"}})
	require.ErrorContains(t, api.Run(t.Context()), "--tls-cert, --tls-key: ", "nothing is begun before the certificate is there")
}
