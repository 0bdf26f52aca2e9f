package pooler

import (
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Unencrypted returns the first host, outside this machine, that a connection to url may reach
// without TLS: by the URL, the environment of libpq (PGSSLMODE, PGHOST) and its files. Empty: none.
// sslmode=prefer, the default, may, since whoever is between can say that the server has no TLS.
// What can't be read as a URL of Postgres is for whoever connects to refuse.
func Unencrypted(url string) (host string) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return ""
	}
	if config.TLSConfig == nil && !isLocal(config.Host) {
		return config.Host
	}
	for _, other := range config.Fallbacks {
		if other.TLSConfig == nil && !isLocal(other.Host) {
			return other.Host
		}
	}
	return ""
}

// isLocal reports whether a host is this machine: a socket's folder, its name, or an address of
// its loopback.
func isLocal(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || strings.EqualFold(host, "localhost") {
		return true
	}
	address := net.ParseIP(host)
	return address != nil && address.IsLoopback()
}
