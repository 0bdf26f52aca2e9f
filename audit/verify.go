package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
)

// Log is where entries are kept.
type Log interface {
	// AuditOfDay returns at most limit of a day's entries, in the order of their IDs, from the one after `after`.
	AuditOfDay(ctx context.Context, day calendar.Day, after uuid.UUID, limit int) ([]Entry, error)
}

// pageSize is how many entries are read at once.
const pageSize = 500

// DigestOf digests a day's entries as they are kept.
func DigestOf(ctx context.Context, log Log, day calendar.Day, previous string) (Digest, error) {
	d := NewDigester(day, previous)
	for after := uuid.Nil; ; {
		page, err := log.AuditOfDay(ctx, day, after, pageSize)
		if err != nil {
			return Digest{}, err
		}
		for _, e := range page {
			if err := d.Add(e); err != nil {
				return Digest{}, err
			}
			after = e.ID
		}
		if len(page) < pageSize {
			return d.Digest(), nil
		}
	}
}

// Files has the digests, as they were written.
type Files interface {
	// Open opens a file by its name; [fs.ErrNotExist] where there is none.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// maxFile is the most bytes of a digest's file.
const maxFile = 4096

// ReadFile reads the digest of a day out of its file; [fs.ErrNotExist] where there is none.
func ReadFile(ctx context.Context, files Files, name string) (_ Digest, err error) {
	file, err := files.Open(ctx, name)
	if err != nil {
		return Digest{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	content, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return Digest{}, fmt.Errorf("read %s: %w", name, err)
	}
	return Decode(content)
}

// Finding is a day whose entries are not what its digest says.
type Finding struct {
	Day calendar.Day `json:"day"`
	// Problem says what is wrong, for people.
	Problem string `json:"problem"`
}

// Verify compares the entries of all days through the last one with their digests in the blob store, and each digest with the
// one of the day before; names are those of all files of digests ([Folder]). An error says that something could not be read.
func Verify(ctx context.Context, log Log, files Files, names []string, last calendar.Day) (checked []Digest, found []Finding, err error) {
	first, found := firstDay(names)
	previous := ""
	for day := first; day <= last; day++ {
		written, err := ReadFile(ctx, files, Digest{Day: day}.File())
		if errors.Is(err, fs.ErrNotExist) {
			found, previous = append(found, Finding{day, "it has no digest"}), anything
			continue
		}
		if err != nil {
			return checked, found, err
		}
		kept, err := DigestOf(ctx, log, day, written.Previous)
		if err != nil {
			return checked, found, err
		}
		if problem := compare(written, kept, previous); problem != "" {
			found = append(found, Finding{day, problem})
		}
		previous = written.Digest
		checked = append(checked, written)
	}
	return checked, found, nil
}

// anything is the previous digest of a day that follows one without a digest.
const anything = "?"

// compare says what is wrong with a digest; empty: nothing.
func compare(written, kept Digest, previous string) string {
	switch {
	case written.Day != kept.Day:
		return "its digest is that of " + written.Day.String()
	case previous != anything && written.Previous != previous:
		return "its digest does not continue that of the day before"
	case kept.Entries != written.Entries:
		return fmt.Sprintf("it has %d entries, and had %d when it was digested", kept.Entries, written.Entries)
	case kept != written:
		return "its entries are others than those that were digested"
	default:
		return ""
	}
}

// firstDay returns the first day that has a digest, and a finding for each file that is not the one of its day.
func firstDay(names []string) (first calendar.Day, found []Finding) {
	first = math.MaxInt32
	for _, name := range names {
		text, ok := strings.CutSuffix(strings.TrimPrefix(name, Folder), ".json")
		day, err := calendar.ParseDay(text[:min(len(text), len(time.DateOnly))])
		switch {
		case err != nil || !ok:
			found = append(found, Finding{Problem: "what is " + name + "?"})
		case name != (Digest{Day: day}).File():
			found = append(found, Finding{day, "it has another digest beside its own: " + name})
		}
		if err == nil {
			first = min(first, day)
		}
	}
	return first, found
}
