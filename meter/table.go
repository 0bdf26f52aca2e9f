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
// half full. One that is removed leaves a mark, which readers pass by.
type table struct {
	mu sync.Mutex
	// count is how many organizations there are, used how many entries, marks included.
	count, used int
	entries     atomic.Pointer[[]atomic.Pointer[Organization]]
}

const firstTableSize = 1 << 10

// removed marks an entry of which the organization is gone. Its ID is nobody's, so that looking for one
// needs no other comparison.
var removed = &Organization{id: uuid.New()}

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
	if 2*(t.used+1) > len(*t.entries.Load()) {
		t.rebuild()
	}
	place(*t.entries.Load(), o)
	t.count++
	t.used++
	return o
}

// rebuild replaces the array by one without marks that is a quarter full at most. The caller holds mu.
func (t *table) rebuild() {
	size := firstTableSize
	for size < 4*(t.count+1) {
		size *= 2
	}
	next := make([]atomic.Pointer[Organization], size)
	t.each(func(o *Organization) { place(next, o) })
	t.entries.Store(&next)
	t.used = t.count
}

// remove takes an organization out. One that isn't there stays out.
func (t *table) remove(o *Organization) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := *t.entries.Load()
	mask := uint64(len(entries) - 1)
	for i := hash(o.id) & mask; ; i = (i + 1) & mask {
		switch entries[i].Load() {
		case nil:
			return
		case o:
			entries[i].Store(removed)
			t.count--
			if 16*t.count < len(entries) && len(entries) > firstTableSize {
				t.rebuild()
			}
			return
		}
	}
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
		if o := entries[i].Load(); o != nil && o != removed {
			fn(o)
		}
	}
}
