package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
)

// errNoKey says that a secret is no key's, or that the key was revoked.
var errNoKey = errors.New("no key that works")

const (
	keyShards       = 64
	maxSecretLength = 128
	// retryAfter is the time between two attempts to look a known key up while the store
	// is away.
	retryAfter = 5 * time.Second
	// confirmAfter is the same for one that doesn't work until it is confirmed.
	confirmAfter = time.Second
	// lookupTimeout bounds one look-up.
	lookupTimeout = 2 * time.Second
	// staffBound is how long a key of finance or of an administrator works that nobody confirms.
	staffBound = time.Minute
)

// keyCache knows the keys that were used lately. Secrets are found by their hash:
// comparing takes the same time whatever the secret is.
//
// All keys that are kept are confirmed together, by asking which were revoked lately
// ([keyCache.confirmAll]). A key is looked up again by itself where that did not happen for long,
// or where every key is to be: in the background while it is served from memory, and at once where
// it has not been used for long. While the store is away, a key that is known goes on working up to
// its bound.
//
// Look-ups have a share of the store's connections: one for keys that aren't in memory, which may be
// made up, and one of their own for rechecks, which a flood of made-up keys must not hold up.
type keyCache struct {
	find     func(ctx context.Context, hash accounts.SecretHash) (accounts.Key, error)
	begins   func(ctx context.Context, prefix string) (bool, error)
	standing func(ctx context.Context, organization uuid.UUID) (accounts.Standing, error)
	// recheck is how long a key is taken from memory before it is confirmed again.
	recheck time.Duration
	// tenantBound is how long a tenant's key works that nobody confirms; 0: without bound.
	tenantBound time.Duration
	max         int
	logger      *slog.Logger

	shards  [keyShards]keyShard
	lookups singleflight.Group
	// slots are the look-ups of keys that aren't in memory, rechecks those of others.
	slots, rechecks chan struct{}
	background      sync.WaitGroup
	unknown         *unknownKeys
	confirmation    confirmation

	// mu guards what follows, and is held while anything is added or removed.
	mu sync.Mutex
	// generation counts the calls of forget. What was read before one is not kept.
	generation uint64
	hashes     map[uuid.UUID]accounts.SecretHash
	// keysOf has the keys of each organization.
	keysOf map[uuid.UUID]map[uuid.UUID]struct{}
}

// question is a look-up: of a secret that came from a remote address, "ip:port".
type question struct {
	hash           accounts.SecretHash
	prefix, remote string
	// recheck says that the key was there before: the secret isn't made up.
	recheck bool
}

type keyShard struct {
	mu   sync.RWMutex
	keys map[accounts.SecretHash]*cachedKey
}

type cachedKey struct {
	principal principal
	// standing is that of the key's organization; of another key it stays active.
	standing accounts.Standing
	// confirmedAt is when the store said that the key works, in Unix nanoseconds, and recheckAfter
	// for how long that is relied on.
	confirmedAt  int64
	recheckAfter time.Duration
	// retryAt is the time before which a recheck that failed is not tried again, in Unix nanoseconds,
	// confirmAt the same for a key that doesn't work until then.
	retryAt    atomic.Int64
	confirmAt  atomic.Int64
	rechecking atomic.Bool
}

func newKeyCache(config Config) *keyCache {
	c := &keyCache{
		find:         config.Store.KeyByHash,
		begins:       config.Store.KeyBegins,
		standing:     config.Store.Standing,
		recheck:      config.KeyRecheck,
		tenantBound:  config.KeysAway,
		max:          config.MaxKeys,
		logger:       config.Logger,
		slots:        make(chan struct{}, config.KeyLookups),
		rechecks:     make(chan struct{}, config.KeyLookups),
		unknown:      newUnknownKeys(),
		confirmation: confirmation{revoked: config.Store.KeysRevokedSince},
		hashes:       map[uuid.UUID]accounts.SecretHash{},
		keysOf:       map[uuid.UUID]map[uuid.UUID]struct{}{},
	}
	for i := range c.shards {
		c.shards[i].keys = map[accounts.SecretHash]*cachedKey{}
	}
	return c
}

// principal returns whose key a secret is that came from a remote address. Errors are [errNoKey],
// [errContractEnded], [errKeyUnconfirmed], [errTooManyUnknownKeys], or the store's.
func (c *keyCache) principal(ctx context.Context, secret, remote string, now time.Time) (*principal, error) {
	if len(secret) > maxSecretLength || !strings.HasPrefix(secret, "tg_") {
		return nil, errNoKey
	}
	hash := accounts.HashSecret(secret)
	known := c.shard(hash).get(hash)
	if known == nil {
		return c.first(ctx, question{hash: hash, prefix: accounts.SecretPrefix(secret), remote: remote}, now)
	}
	return c.again(ctx, hash, known, now)
}

// principalOf is [keyCache.principal] for a key that the store has, by its hash.
func (c *keyCache) principalOf(ctx context.Context, hash accounts.SecretHash, now time.Time) (*principal, error) {
	known := c.shard(hash).get(hash)
	if known == nil {
		return c.first(ctx, question{hash: hash, recheck: true}, now)
	}
	return c.again(ctx, hash, known, now)
}

// first looks a key up that isn't in memory.
func (c *keyCache) first(ctx context.Context, asked question, now time.Time) (*principal, error) {
	found, err := c.ask(ctx, asked, now)
	if err != nil {
		return nil, err
	}
	return found.in(now)
}

// again takes a key from memory, and looks it up again where that is due.
func (c *keyCache) again(ctx context.Context, hash accounts.SecretHash, known *cachedKey, now time.Time) (*principal, error) {
	late := c.lateBy(known, now)
	bound := c.bound(known.principal.role)
	switch {
	case bound > 0 && now.UnixNano()-c.confirmedAt(known) >= int64(bound):
		var err error
		if known, err = c.confirm(ctx, hash, known, now); err != nil {
			return nil, err
		}
	case late < 0:
	case late < c.recheck:
		c.recheckLater(hash, known, now)
	default:
		if err := c.recheckNow(ctx, hash, known, now); err != nil {
			return nil, err
		}
	}
	return known.in(now)
}

// in returns the bearer of a key whose organization is under contract.
func (k *cachedKey) in(now time.Time) (*principal, error) {
	if !k.standing.ActiveAt(now) {
		return nil, errContractEnded
	}
	return &k.principal, nil
}

func (c *keyCache) shard(hash accounts.SecretHash) *keyShard { return &c.shards[hash[0]%keyShards] }

func (s *keyShard) get(hash accounts.SecretHash) *cachedKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys[hash]
}

// bound is how long a key of a role works that nobody confirms; 0: without bound.
func (c *keyCache) bound(r role) time.Duration {
	if r == roleTenant {
		return c.tenantBound
	}
	return staffBound
}

// ask reads a key from the store, once for all who ask in the same generation, and
// keeps what it finds.
func (c *keyCache) ask(ctx context.Context, asked question, now time.Time) (*cachedKey, error) {
	if !asked.recheck {
		if err := c.unknown.check(asked, now); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	generation := c.generation
	c.mu.Unlock()
	flight := strconv.AppendUint(append(make([]byte, 0, len(asked.hash)+20), asked.hash[:]...), generation, 10)
	// It is shared, so it must not end with one of those who wait.
	ctx = context.WithoutCancel(ctx)
	found, err, _ := c.lookups.Do(string(flight), func() (any, error) { return c.read(ctx, generation, asked, now) })
	if err != nil {
		return nil, err
	}
	return found.(*cachedKey), nil
}

func (c *keyCache) read(ctx context.Context, generation uint64, asked question, now time.Time) (*cachedKey, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	slots := c.slots
	if asked.recheck {
		slots = c.rechecks
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to look up a key: %w", ctx.Err())
	}
	if !asked.recheck {
		// While this one waited, others may have found out that it needn't.
		if err := c.unknown.check(asked, now); err != nil {
			return nil, err
		}
	}
	key, err := c.find(ctx, asked.hash)
	if errors.Is(err, fault.ErrNotFound) || (err == nil && key.RevokedAt != nil) {
		c.keepUnknown(ctx, generation, asked, now)
		return nil, errNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("look up a key: %w", err)
	}
	found := &cachedKey{
		confirmedAt:  now.UnixNano(),
		recheckAfter: c.recheckAfter(key.Role),
		principal:    principal{key: key.ID, organization: key.Organization, role: key.Role, name: key.Name, person: key.Owner},
		standing:     accounts.Standing{Active: true},
	}
	if key.Organization != uuid.Nil {
		if found.standing, err = c.standing(ctx, key.Organization); err != nil {
			return nil, fmt.Errorf("look up the contract of a key's organization: %w", err)
		}
	}
	c.keep(generation, asked.hash, found)
	return found, nil
}

// recheckAfter spreads the rechecks of keys that were looked up together. They come well before a
// key's bound.
func (c *keyCache) recheckAfter(r role) time.Duration {
	after := c.recheck
	if bound := c.bound(r); bound > 0 {
		after = min(after, bound/2)
	}
	return after - rand.N(after/10+1)
}

func (c *keyCache) keep(generation uint64, hash accounts.SecretHash, found *cachedKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.keys[hash]; !there && len(s.keys) >= max(1, c.max/keyShards) {
		// Any one will do: it is looked up again when it is used.
		for other, k := range s.keys {
			delete(s.keys, other)
			c.drop(k)
			break
		}
	}
	s.keys[hash] = found
	c.hashes[found.principal.key] = hash
	if organization := found.principal.organization; organization != uuid.Nil {
		if c.keysOf[organization] == nil {
			c.keysOf[organization] = map[uuid.UUID]struct{}{}
		}
		c.keysOf[organization][found.principal.key] = struct{}{}
	}
}

// drop takes a key that is no longer kept out of the lists. The caller holds mu.
func (c *keyCache) drop(k *cachedKey) {
	delete(c.hashes, k.principal.key)
	keys := c.keysOf[k.principal.organization]
	delete(keys, k.principal.key)
	if len(keys) == 0 {
		delete(c.keysOf, k.principal.organization)
	}
}

func (c *keyCache) keepUnknown(ctx context.Context, generation uint64, asked question, now time.Time) {
	c.remove(asked.hash)
	// Where that can't be found out, it is this secret alone.
	begins, err := true, error(nil)
	if !asked.recheck {
		begins, err = c.begins(ctx, asked.prefix)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation == generation {
		c.unknown.note(asked, !begins && err == nil, now)
	}
}

func (c *keyCache) remove(hash accounts.SecretHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.keys[hash]; ok {
		delete(s.keys, hash)
		c.drop(known)
	}
}

// recheckNow looks a known key up again. A store that is away leaves the key as it is.
func (c *keyCache) recheckNow(ctx context.Context, hash accounts.SecretHash, known *cachedKey, now time.Time) error {
	_, err := c.ask(ctx, question{hash: hash, recheck: true}, now)
	if err == nil || errors.Is(err, errNoKey) {
		return err
	}
	known.retryAt.Store(now.Add(retryAfter).UnixNano())
	c.logger.Warn("A key could not be looked up again: it goes on working", "key", known.principal.key, "error", err)
	return nil
}

// confirm looks a key up again that doesn't work until the store says so.
func (c *keyCache) confirm(ctx context.Context, hash accounts.SecretHash, known *cachedKey, now time.Time) (*cachedKey, error) {
	if now.UnixNano() < known.confirmAt.Load() {
		return nil, errKeyUnconfirmed
	}
	found, err := c.ask(ctx, question{hash: hash, recheck: true}, now)
	if err == nil || errors.Is(err, errNoKey) {
		return found, err
	}
	known.confirmAt.Store(now.Add(confirmAfter).UnixNano())
	return nil, fmt.Errorf("%w: %w", errKeyUnconfirmed, err)
}

// recheckLater looks a known key up again in the background.
func (c *keyCache) recheckLater(hash accounts.SecretHash, known *cachedKey, now time.Time) {
	if len(c.rechecks) == cap(c.rechecks) || !known.rechecking.CompareAndSwap(false, true) {
		return
	}
	c.background.Go(func() {
		defer known.rechecking.Store(false)
		// What it finds, or doesn't, is in the cache afterwards.
		_ = c.recheckNow(context.Background(), hash, known, now)
	})
}

// forget makes the cache look a key up again at its next use, and fail if it can't;
// for [uuid.Nil] it makes every key due for a recheck.
func (c *keyCache) forget(id uuid.UUID, now time.Time) {
	c.mu.Lock()
	c.generation++
	hash, known := c.hashes[id]
	c.unknown.forget()
	c.mu.Unlock()
	if known {
		c.remove(hash)
	}
	if id == uuid.Nil {
		c.confirmation.recheckAllAt.Store(now.UnixNano())
	}
}

// forgetOrganization makes the cache look the keys of an organization up again at their
// next use, and fail if it can't.
func (c *keyCache) forgetOrganization(id uuid.UUID) {
	c.mu.Lock()
	c.generation++
	var hashes []accounts.SecretHash
	for k := range c.keysOf[id] {
		hashes = append(hashes, c.hashes[k])
	}
	c.mu.Unlock()
	for _, hash := range hashes {
		c.remove(hash)
	}
}

// close waits for look-ups in the background.
func (c *keyCache) close() { c.background.Wait() }
