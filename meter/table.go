package meter

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// table finds organizations by ID: open addressing with linear probing over
// atomic pointers. Readers take no lock; writers replace the arrays when they are
// half full. One that is removed leaves a mark, which readers pass by.
type table struct {
	mu sync.Mutex
	// count is how many organizations there are, used how many entries, marks included.
	count, used int
	entries     atomic.Pointer[entries]
}

// entries are the organizations, and of each a byte of its hash, eight to a word: what comes before the
// one that is looked for is passed by without a look at it. An entry is there before its byte.
type entries struct {
	bytes []atomic.Uint64
	of    []atomic.Pointer[Organization]
}

func newEntries(size int) *entries {
	return &entries{make([]atomic.Uint64, size/8), make([]atomic.Pointer[Organization], size)}
}

// at is the byte of an entry; 0: there is none.
func (e *entries) at(i uint64) byte { return byte(e.bytes[i>>3].Load() >> (8 * (i & 7))) }

// byteOf is the byte of a hash, by bits that don't say where its entry is.
func byteOf(hash uint64) byte { return byte(hash>>56) | 1 }

const firstTableSize = 1 << 10

// removed marks an entry of which the organization is gone. Its ID is nobody's, so that looking for one
// needs no other comparison.
var removed = &Organization{id: uuid.New()}

func newTable() *table {
	t := &table{}
	t.entries.Store(newEntries(firstTableSize))
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
	entries := t.entries.Load()
	mask := uint64(len(entries.of) - 1)
	h := hash(id)
	for i, want := h&mask, byteOf(h); ; i = (i + 1) & mask {
		switch entries.at(i) {
		case want:
			if o := entries.of[i].Load(); o.id == id {
				return o
			}
		case 0:
			return nil
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
	if 2*(t.used+1) > len(t.entries.Load().of) {
		t.rebuild()
	}
	t.entries.Load().place(o)
	t.count++
	t.used++
	return o
}

// rebuild replaces the arrays by ones without marks that are a third full at most. The caller holds mu.
func (t *table) rebuild() {
	size := firstTableSize
	for size < 3*(t.count+1) {
		size *= 2
	}
	next := newEntries(size)
	t.each(next.place)
	t.entries.Store(next)
	t.used = t.count
}

// remove takes an organization out. One that isn't there stays out.
func (t *table) remove(o *Organization) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := t.entries.Load().of
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

// place adds an organization. The caller holds the table's mu, or nobody else knows the entries.
func (e *entries) place(o *Organization) {
	mask := uint64(len(e.of) - 1)
	h := hash(o.id)
	i := h & mask
	for e.of[i].Load() != nil {
		i = (i + 1) & mask
	}
	e.of[i].Store(o)
	word := &e.bytes[i>>3]
	word.Store(word.Load() | uint64(byteOf(h))<<(8*(i&7)))
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// each calls fn for every organization that was there when it began.
func (t *table) each(fn func(*Organization)) {
	entries := t.entries.Load().of
	for i := range entries {
		if o := entries[i].Load(); o != nil && o != removed {
			fn(o)
		}
	}
}
