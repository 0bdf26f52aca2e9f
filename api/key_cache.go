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
	// unknownFor is how long it is remembered that a secret is no key's. A key that is
	// made meanwhile can't be one of those: its secret is new.
	unknownFor = 5 * time.Second
	maxUnknown = 10_000
	// retryAfter is the time between two attempts to look a known key up while the store
	// is away.
	retryAfter = 5 * time.Second
	// lookupTimeout bounds one look-up, maxLookups how many run at once: callers with
	// wrong keys must not take the store away from everybody else.
	lookupTimeout = 2 * time.Second
	maxLookups    = 16
)

// keyCache knows the keys that were used lately. Secrets are found by their hash:
// comparing takes the same time whatever the secret is.
//
// A key is looked up again when its recheck is due: in the background while it is
// served from memory, and at once where it has not been used for long. While the
// store is away, a key that is known goes on working.
type keyCache struct {
	find     func(ctx context.Context, hash accounts.SecretHash) (accounts.Key, error)
	standing func(ctx context.Context, organization uuid.UUID) (accounts.Standing, error)
	recheck  time.Duration
	max      int
	logger   *slog.Logger

	shards     [keyShards]keyShard
	lookups    singleflight.Group
	slots      chan struct{}
	background sync.WaitGroup

	// mu guards what follows, and is held while anything is added or removed.
	mu sync.Mutex
	// generation counts the calls of forget. What was read before one is not kept.
	generation uint64
	hashes     map[uuid.UUID]accounts.SecretHash
	// keysOf has the keys of each organization.
	keysOf  map[uuid.UUID]map[uuid.UUID]struct{}
	unknown map[accounts.SecretHash]time.Time
}

type keyShard struct {
	mu   sync.RWMutex
	keys map[accounts.SecretHash]*cachedKey
}

type cachedKey struct {
	principal principal
	// standing is that of the key's organization; of another key it stays active.
	standing accounts.Standing
	// recheckAt is when the key is due to be looked up again, in Unix nanoseconds.
	recheckAt  atomic.Int64
	rechecking atomic.Bool
}

func newKeyCache(config Config) *keyCache {
	c := &keyCache{
		find:     config.Store.KeyByHash,
		standing: config.Store.Standing,
		recheck:  config.KeyRecheck,
		max:      config.MaxKeys,
		logger:   config.Logger,
		slots:    make(chan struct{}, maxLookups),
		hashes:   map[uuid.UUID]accounts.SecretHash{},
		keysOf:   map[uuid.UUID]map[uuid.UUID]struct{}{},
		unknown:  map[accounts.SecretHash]time.Time{},
	}
	for i := range c.shards {
		c.shards[i].keys = map[accounts.SecretHash]*cachedKey{}
	}
	return c
}

// principal returns whose key a secret is, [errNoKey], [errContractEnded], or the store's
// error.
func (c *keyCache) principal(ctx context.Context, secret string, now time.Time) (*principal, error) {
	if len(secret) > maxSecretLength || !strings.HasPrefix(secret, "tg_") {
		return nil, errNoKey
	}
	hash := accounts.HashSecret(secret)
	known := c.shard(hash).get(hash)
	if known == nil {
		var err error
		if known, err = c.lookUp(ctx, hash, now); err != nil {
			return nil, err
		}
		return known.in(now)
	}
	late := now.UnixNano() - known.recheckAt.Load()
	switch {
	case late < 0:
	case late < int64(c.recheck):
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

// lookUp asks the store for a secret that isn't known, once for all who ask.
func (c *keyCache) lookUp(ctx context.Context, hash accounts.SecretHash, now time.Time) (*cachedKey, error) {
	c.mu.Lock()
	until, unknown := c.unknown[hash]
	c.mu.Unlock()
	if unknown && now.Before(until) {
		return nil, errNoKey
	}
	return c.ask(ctx, hash, now)
}

// ask reads a key from the store, once for all who ask in the same generation, and
// keeps what it finds.
func (c *keyCache) ask(ctx context.Context, hash accounts.SecretHash, now time.Time) (*cachedKey, error) {
	c.mu.Lock()
	generation := c.generation
	c.mu.Unlock()
	flight := strconv.AppendUint(append(make([]byte, 0, len(hash)+20), hash[:]...), generation, 10)
	// It is shared, so it must not end with one of those who wait.
	ctx = context.WithoutCancel(ctx)
	found, err, _ := c.lookups.Do(string(flight), func() (any, error) { return c.read(ctx, generation, hash, now) })
	if err != nil {
		return nil, err
	}
	return found.(*cachedKey), nil
}

func (c *keyCache) read(ctx context.Context, generation uint64, hash accounts.SecretHash, now time.Time) (*cachedKey, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to look up a key: %w", ctx.Err())
	}
	key, err := c.find(ctx, hash)
	if errors.Is(err, fault.ErrNotFound) || (err == nil && key.RevokedAt != nil) {
		c.keepUnknown(generation, hash, now)
		return nil, errNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("look up a key: %w", err)
	}
	found := &cachedKey{
		principal: principal{key: key.ID, organization: key.Organization, role: key.Role, name: key.Name, person: key.Owner},
		standing:  accounts.Standing{Active: true},
	}
	if key.Organization != uuid.Nil {
		if found.standing, err = c.standing(ctx, key.Organization); err != nil {
			return nil, fmt.Errorf("look up the contract of a key's organization: %w", err)
		}
	}
	found.recheckAt.Store(c.nextRecheck(now))
	c.keep(generation, hash, found)
	return found, nil
}

// nextRecheck spreads the rechecks of keys that were looked up together.
func (c *keyCache) nextRecheck(now time.Time) int64 {
	return now.Add(c.recheck - rand.N(c.recheck/10+1)).UnixNano()
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

func (c *keyCache) keepUnknown(generation uint64, hash accounts.SecretHash, now time.Time) {
	c.remove(hash)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if len(c.unknown) >= maxUnknown {
		clear(c.unknown)
	}
	c.unknown[hash] = now.Add(unknownFor)
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
	_, err := c.ask(ctx, hash, now)
	if err == nil || errors.Is(err, errNoKey) {
		return err
	}
	known.recheckAt.Store(now.Add(retryAfter).UnixNano())
	c.logger.Warn("A key could not be looked up again: it goes on working", "key", known.principal.key, "error", err)
	return nil
}

// recheckLater looks a known key up again in the background.
func (c *keyCache) recheckLater(hash accounts.SecretHash, known *cachedKey, now time.Time) {
	if len(c.slots) == cap(c.slots) || !known.rechecking.CompareAndSwap(false, true) {
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
	clear(c.unknown)
	c.mu.Unlock()
	if known {
		c.remove(hash)
	}
	if id != uuid.Nil {
		return
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		for _, k := range s.keys {
			k.recheckAt.Store(min(k.recheckAt.Load(), now.UnixNano()))
		}
		s.mu.RUnlock()
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
