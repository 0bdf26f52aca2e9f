package meter

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// table finds organizations by ID: open addressing with linear probing over
// atomic pointers. Readers take no lock; writers replace the array when it is
// half full. Organizations are never removed.
type table struct {
	mu      sync.Mutex
	count   int
	entries atomic.Pointer[[]atomic.Pointer[Organization]]
}

const firstTableSize = 1 << 10

func newTable() *table {
	t := &table{}
	entries := make([]atomic.Pointer[Organization], firstTableSize)
	t.entries.Store(&entries)
	return t
}

// hash spreads IDs of any kind, those with a shared prefix (UUIDv7) too:
// Fibonacci hashing of the two halves.
func hash(id uuid.UUID) uint64 {
	const golden = 0x9E3779B97F4A7C15
	high, low := binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
	return bits.RotateLeft64((high^bits.RotateLeft64(low, 29))*golden, 32) ^ low*golden
}

// find returns the organization, or nil.
func (t *table) find(id uuid.UUID) *Organization {
	entries := *t.entries.Load()
	mask := uint64(len(entries) - 1)
	for i := hash(id) & mask; ; i = (i + 1) & mask {
		o := entries[i].Load()
		if o == nil || o.id == id {
			return o
		}
	}
}

// insert adds an organization, unless its ID is there; it returns the one that is.
func (t *table) insert(o *Organization) *Organization {
	t.mu.Lock()
	defer t.mu.Unlock()
	if there := t.find(o.id); there != nil {
		return there
	}
	entries := *t.entries.Load()
	if 2*(t.count+1) > len(entries) {
		grown := make([]atomic.Pointer[Organization], 2*len(entries))
		for i := range entries {
			if there := entries[i].Load(); there != nil {
				place(grown, there)
			}
		}
		t.entries.Store(&grown)
		entries = grown
	}
	place(entries, o)
	t.count++
	return o
}

func place(entries []atomic.Pointer[Organization], o *Organization) {
	mask := uint64(len(entries) - 1)
	i := hash(o.id) & mask
	for entries[i].Load() != nil {
		i = (i + 1) & mask
	}
	entries[i].Store(o)
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// each calls fn for every organization that was there when it began.
func (t *table) each(fn func(*Organization)) {
	entries := *t.entries.Load()
	for i := range entries {
		if o := entries[i].Load(); o != nil {
			fn(o)
		}
	}
}
