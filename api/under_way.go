package api

import (
	"sync"

	"github.com/google/uuid"
)

// underWay counts the requests that are under way, by their callers: a tenant with all of its
// keys, or a key of nobody's. One caller's slow requests must not take every connection.
type underWay struct {
	// most is the most that one caller may have.
	most   int
	shards [keyShards]struct {
		mu     sync.Mutex
		counts map[uuid.UUID]int
	}
}

func newUnderWay(most int) *underWay {
	u := &underWay{most: most}
	for i := range u.shards {
		u.shards[i].counts = map[uuid.UUID]int{}
	}
	return u
}

// caller is who a request is counted for.
func (p *principal) caller() uuid.UUID {
	if p.role == roleTenant {
		return p.organization
	}
	return p.key
}

// enter counts a request that begins, which must leave; [errTooManyUnderWay] where its caller
// has as many as it may have.
func (u *underWay) enter(p *principal) error {
	id := p.caller()
	shard := &u.shards[id[15]%keyShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.counts[id] >= u.most {
		return errTooManyUnderWay
	}
	shard.counts[id]++
	return nil
}

func (u *underWay) leave(p *principal) {
	id := p.caller()
	shard := &u.shards[id[15]%keyShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.counts[id]--
	if shard.counts[id] == 0 {
		delete(shard.counts, id)
	}
}
