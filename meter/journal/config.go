package journal

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Durability says what an append survives once it has returned.
type Durability string

// The durabilities. The package's documentation says what each guarantees.
const (
	// Memory writes nothing: a flush that hasn't happened is lost with the process.
	Memory Durability = "memory"
	// Process survives the end of the process, kill -9 included.
	Process Durability = "process"
	// Disk survives a loss of power.
	Disk Durability = "disk"
)

// Valid reports whether d is one of the durabilities.
func (d Durability) Valid() bool { return d == Memory || d == Process || d == Disk }

// Config is what a [Journal] is opened with.
type Config struct {
	// Dir is the folder of the segments, on a local file system. It is created where
	// it isn't there. Required; for [Memory] it may be empty, and then nothing that
	// earlier processes left is looked for.
	Dir string
	// Instance is the identity under which batches are written. Required.
	Instance uuid.UUID
	// Durability says what an append survives. Zero: [Process].
	Durability Durability
	// First is the sequence of the first segment. Zero: 1.
	First int64
	// SegmentLimit is the most that the records of one segment take, in bytes, 64 KiB or more: what
	// can be on disk while nothing is flushed. Its file may take 64 KiB more. Zero: 1 GiB, some 16
	// million records.
	SegmentLimit int64
	// Keep is how long a segment is kept after its batch was written, so that it can be
	// written again where the store has lost it: a backup was restored, or a standby that
	// lagged has taken over. Zero: it goes at once.
	Keep time.Duration
	// KeepBytes is the most that such segments take, in bytes; the oldest go first. Zero: 4 GiB.
	KeepBytes int64
	// Fenced leaves a copy of the segments of an instance alone while the store says that the
	// instance is alive. False: the store isn't asked.
	Fenced bool
	// Now tells the time, UTC. Required with Keep.
	Now func() time.Time

	// step is by how much a segment grows that is written in groups, window how much of another one
	// is mapped, in bytes; multiples of the page size.
	step, window int64
	create       func(path string) (file, error)
	// held is the folder, once it is taken.
	held *heldFolder
	// spares are given up where the process has no descriptor left for a segment.
	spares *spares
}

const (
	defaultSegmentLimit = 1 << 30
	defaultKeepBytes    = 4 << 30
	minSegmentLimit     = 64 << 10
	// defaultStep costs an idle instance twice its size on disk. With 64 KiB the
	// system calls show in an append; above 1 MiB little is won (bench/journal).
	defaultStep = 1 << 20
	// defaultWindow fits into a processor's second cache. With 16 KiB the system calls show in an
	// append; above 64 KiB nothing is won (docs/benchmarks.md).
	defaultWindow = 64 << 10
)

// firstStep is how much of a new segment is allocated at once.
func (c *Config) firstStep() int64 {
	if c.Durability == Process {
		return c.window
	}
	return min(c.step, c.SegmentLimit)
}

func (c *Config) complete() error {
	if c.Durability == "" {
		c.Durability = Process
	}
	if c.First == 0 {
		c.First = 1
	}
	if c.SegmentLimit == 0 {
		c.SegmentLimit = defaultSegmentLimit
	}
	if c.KeepBytes == 0 {
		c.KeepBytes = defaultKeepBytes
	}
	c.spares = &spares{}
	if c.create == nil {
		c.create = func(path string) (file, error) { return createFile(path, c.spares) }
	}
	if c.step == 0 {
		c.step = defaultStep
	}
	if c.window == 0 {
		c.window = defaultWindow
	}
	switch {
	case !c.Durability.Valid():
		return fmt.Errorf("journal: Durability %q is not memory, process or disk", c.Durability)
	case c.Instance == uuid.Nil:
		return errors.New("journal: Instance is required")
	case c.Dir == "" && c.Durability != Memory:
		return errors.New("journal: Dir is required")
	case c.Keep < 0 || c.KeepBytes < 0:
		return fmt.Errorf("journal: Keep is %s and KeepBytes %d, they must be 0 or more", c.Keep, c.KeepBytes)
	case c.Keep > 0 && c.Now == nil:
		return errors.New("journal: Now is required with Keep")
	case c.First < 0:
		return fmt.Errorf("journal: First is %d, it must be 1 or more", c.First)
	case c.SegmentLimit < minSegmentLimit:
		return fmt.Errorf("journal: SegmentLimit is %d bytes, it must be %d or more", c.SegmentLimit, minSegmentLimit)
	}
	return nil
}
