// Package connections bounds the connections that a server holds, so that file descriptors are
// left for everything else that the process opens.
package connections

import "fmt"

const (
	// held is what a process opens besides connections of its callers and those to Postgres:
	// the journal's segments, files, Temporal, the blob store, the connections for probes.
	held = 96 + spareConnections
	// most is how many connections are held where nothing else says so.
	most = 20_000
	// least is how many a server must be able to hold.
	least = 16
)

// Budget is what a process may open.
type Budget struct {
	// Files is the limit of file descriptors.
	Files int
	// Postgres is the most connections to Postgres that the process opens.
	Postgres int
	// Forwards says that a connection may need another one, to an upstream.
	Forwards bool
}

// Connections returns how many connections may be held; asked is what the settings want, 0: as
// many as can be. What the descriptors don't suffice for is an error.
func (b Budget) Connections(asked int) (int, error) {
	left := b.Files - held - b.Postgres
	if b.Forwards {
		left /= 2
	}
	switch {
	case left < least || asked > left:
		return 0, fmt.Errorf("%d file descriptors leave room for %d connections, and %d are wanted: raise the hard limit (ulimit -Hn, LimitNOFILE)",
			b.Files, max(0, left), max(least, asked))
	case asked == 0:
		return min(left, most), nil
	default:
		return asked, nil
	}
}
