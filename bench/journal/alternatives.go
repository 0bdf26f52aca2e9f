package main

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter/journal"
)

const maxRecord = 112

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// layout writes a record to b and returns its length.
type layout func(b []byte, r journal.Record) int

// bytesLayout is the journal's: the meter's key as it is.
func bytesLayout(b []byte, r journal.Record) int {
	return seal(b, r, 44+copy(b[44:], r.Meter))
}

// mapLayout has a small number in place of the key, found in a map.
func mapLayout(b []byte, r journal.Record) int {
	binary.LittleEndian.PutUint16(b[44:], interned[r.Meter])
	return seal(b, r, 46)
}

// searchLayout has a small number in place of the key, found by looking at each.
func searchLayout(b []byte, r journal.Record) int {
	for i, key := range meters {
		if key == r.Meter {
			binary.LittleEndian.PutUint16(b[44:], uint16(i))
			break
		}
	}
	return seal(b, r, 46)
}

var interned = func() map[string]uint16 {
	out := map[string]uint16{}
	for i, key := range meters {
		out[key] = uint16(i)
	}
	return out
}()

func seal(b []byte, r journal.Record, n int) int {
	binary.LittleEndian.PutUint16(b[4:], uint16(n))
	b[6], b[7] = 1, 0
	copy(b[8:24], r.Organization[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(r.Quantity))
	binary.LittleEndian.PutUint64(b[32:], uint64(r.At))
	binary.LittleEndian.PutUint32(b[40:], uint32(r.Day))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:n], castagnoli))
	return n
}

// file is a subject that writes one file.
type file struct {
	file  *os.File
	write func(b []byte) error
	// layout is how records are laid out.
	layout layout
}

func newFile(dir string) (*file, error) {
	f, err := os.Create(filepath.Join(dir, "segment"))
	return &file{file: f, layout: bytesLayout}, err
}

func (f *file) appender() func(int) error {
	organization := uuid.New()
	buffer := make([]byte, maxRecord)
	return func(i int) error {
		return f.write(buffer[:f.layout(buffer, newRecord(organization, i))])
	}
}

func (f *file) close() error { return f.file.Close() }

// openWriter calls the system for each append.
func openWriter(dir string) (log, error) {
	f, err := newFile(dir)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	offset := int64(0)
	f.write = func(b []byte) error {
		mu.Lock()
		defer mu.Unlock()
		n, err := f.file.WriteAt(b, offset)
		offset += int64(n)
		return err
	}
	return f, nil
}

// grouped has one appender write for all that wait, as the journal's own groups.
type grouped struct {
	file    *os.File
	mu      sync.Mutex
	forming *group
	leading bool
	offset  int64
}

type group struct {
	buffer  []byte
	members int
	done    bool
	err     error
	ended   sync.Cond
}

func openGrouped(dir string) (log, error) {
	f, err := newFile(dir)
	if err != nil {
		return nil, err
	}
	g := &grouped{file: f.file}
	groups := sync.Pool{New: func() any { return &group{} }}
	f.write = func(b []byte) error { return g.append(&groups, b) }
	return f, nil
}

func (g *grouped) append(groups *sync.Pool, b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	mine := g.forming
	if mine == nil {
		mine = groups.Get().(*group)
		mine.buffer, mine.done, mine.err = mine.buffer[:0], false, nil
		mine.ended.L = &g.mu
		g.forming = mine
	}
	mine.members++
	mine.buffer = append(mine.buffer, b...)
	for !mine.done {
		if g.leading {
			mine.ended.Wait()
			continue
		}
		g.leading, g.forming = true, nil
		g.mu.Unlock()
		_, err := g.file.WriteAt(mine.buffer, g.offset)
		g.mu.Lock()
		g.offset += int64(len(mine.buffer))
		g.leading, mine.done, mine.err = false, true, err
		mine.ended.Broadcast()
		if g.forming != nil {
			g.forming.ended.Signal()
		}
	}
	err := mine.err
	mine.members--
	if mine.members == 0 {
		groups.Put(mine)
	}
	return err
}
