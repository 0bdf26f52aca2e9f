package api

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/riverline/tollgate/accounts"
)

const (
	// unknownFor is how long it is remembered that a secret, or every secret that begins alike, is
	// no key's. A key that is made meanwhile can't be one of those: its secret is new, and who
	// hears of it forgets them.
	unknownFor = 5 * time.Second
	maxUnknown = 10_000
	// wrongBurst is how many secrets that are no key's an address may have looked up at once, and
	// wrongPerSecond how many a second from then on.
	wrongBurst, wrongPerSecond = 100, 20
	// strangers is how many callers those are together, in the eyes of the shedder, whose keys
	// nobody knows: each address is one of them. More would give a flood more than the tenants.
	strangers = 16
)

// unknownKeys bounds what secrets cost that are no key's.
type unknownKeys struct {
	mu sync.Mutex
	// secrets and prefixes are no key's until a time.
	secrets  map[accounts.SecretHash]time.Time
	prefixes map[string]time.Time
	// wrong has what is left to each address.
	wrong map[netip.Prefix]*rate.Limiter
}

func newUnknownKeys() *unknownKeys {
	return &unknownKeys{secrets: map[accounts.SecretHash]time.Time{}, prefixes: map[string]time.Time{}, wrong: map[netip.Prefix]*rate.Limiter{}}
}

// check is [errNoKey] for a secret that is known to be no key's, and [errTooManyUnknownKeys] for
// any other of an address that had too many of those looked up. An address that can't be read,
// as that of a local socket, has no limit.
func (u *unknownKeys) check(asked question, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Before(u.secrets[asked.hash]) || now.Before(u.prefixes[asked.prefix]) {
		return errNoKey
	}
	if left := u.wrong[networkOf(asked.remote)]; left != nil && left.TokensAt(now) < 1 {
		return errTooManyUnknownKeys
	}
	return nil
}

// note remembers a secret that is no key's, and where prefixToo is true every one that begins
// like it, at its address's expense.
func (u *unknownKeys) note(asked question, prefixToo bool, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	keep(u.secrets, asked.hash, now.Add(unknownFor))
	if prefixToo {
		keep(u.prefixes, asked.prefix, now.Add(unknownFor))
	}
	network := networkOf(asked.remote)
	if !network.IsValid() {
		return
	}
	if u.wrong[network] == nil {
		keep(u.wrong, network, rate.NewLimiter(wrongPerSecond, wrongBurst))
	}
	u.wrong[network].AllowN(now, 1)
}

// keep bounds what is remembered: all is forgotten where it grows too large.
func keep[K comparable, V any](in map[K]V, key K, value V) {
	if len(in) >= maxUnknown {
		clear(in)
	}
	in[key] = value
}

// forget takes no secret for known to be wrong any more: a key was made, or changed.
func (u *unknownKeys) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.secrets)
	clear(u.prefixes)
}

// networkOf returns who an address counts for: itself, or for version 6 what one subscriber is
// given; invalid where it can't be read.
func networkOf(remote string) netip.Prefix {
	const host4, subscriber6 = 32, 64
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	address, bits := at.Addr().Unmap(), host4
	if address.Is6() {
		bits = subscriber6
	}
	network, _ := address.WithZone("").Prefix(bits)
	return network
}

var strangerSeed = maphash.MakeSeed()

// strangerAt is the caller, for the shedder, of those at an address whose keys nobody knows.
func strangerAt(remote string) uuid.UUID {
	return uuid.UUID{15: byte(maphash.Comparable(strangerSeed, networkOf(remote)) % strangers)}
}
