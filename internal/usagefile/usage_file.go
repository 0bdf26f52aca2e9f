// Package usagefile reads files of past usage: CSV with a header, or JSON Lines, with the
// columns organization_id, meter, day, value and, if need be, at. It reads a whole file
// before anything of it may count, and names each line at fault.
package usagefile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// Format is the form of a file.
type Format string

// The formats.
const (
	CSV   Format = "csv"
	JSONL Format = "jsonl"
)

// ChunkLines is how many lines are written at once, as one batch. It is a part of a file's
// identity, see [File.Instance].
const ChunkLines = 10_000

// MaxLines is the most lines that a file may have: they are held in memory.
const MaxLines = 10_000_000

// firstDay is the first day of which usage may be kept.
var firstDay = calendar.DayOf(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))

// Config says what lines are held against.
type Config struct {
	Format Format
	// Catalog has the meters. Required.
	Catalog *plans.Catalog
	// Organizations holds those that there are. Required.
	Organizations map[uuid.UUID]bool
	// Now bounds days and times, UTC.
	Now time.Time
	// KeepProblems is how many problems are kept; all are counted.
	KeepProblems int
}

// Problem is a field of a line that breaks a rule.
type Problem struct {
	// Line counts from 1; the header of a CSV file is line 1.
	Line int `json:"line"`
	// Field is the name of the column; empty where the line itself can't be read.
	Field string `json:"field,omitempty"`
	Rule  string `json:"rule"`
}

// String names line, field and rule.
func (p Problem) String() string {
	if p.Field == "" {
		return fmt.Sprintf("line %d: %s", p.Line, p.Rule)
	}
	return fmt.Sprintf("line %d: %s %s", p.Line, p.Field, p.Rule)
}

// File is a file that was read to its end.
type File struct {
	// SHA256 is that of its bytes, hexadecimal.
	SHA256 string
	// Lines is how many lines bear usage, broken ones included.
	Lines int
	// Broken is how many lines have a problem, and Problems are the first of them.
	Broken   int
	Problems []Problem
	// From and To are the first and the last day.
	From, To calendar.Day

	rows []meter.Row
}

// Read reads a file to its end. Lines at fault are in the answer; an error is one of
// reading, or a file of more than [MaxLines].
func Read(from io.Reader, config Config) (*File, error) {
	r := &reader{
		config: config, today: calendar.DayOf(config.Now), file: &File{}, digest: sha256.New(),
		aggregations: map[string]plans.Aggregation{}, sums: map[sumKey]int64{},
	}
	for _, m := range config.Catalog.Meters {
		r.aggregations[m.Key] = m.Aggregation
	}
	buffered := bufio.NewReaderSize(io.TeeReader(from, r.digest), 1<<20)
	if mark, err := buffered.Peek(len(byteOrderMark)); err == nil && bytes.Equal(mark, byteOrderMark) {
		_, _ = buffered.Discard(len(byteOrderMark))
	}
	var err error
	switch config.Format {
	case CSV:
		err = r.readCSV(buffered)
	case JSONL:
		err = r.readJSONL(buffered)
	default:
		err = fmt.Errorf("the format is %q: it must be csv or jsonl", config.Format)
	}
	if err != nil {
		return nil, err
	}
	// What wasn't read, since the header is wrong, belongs to the file's identity, too.
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	r.file.SHA256 = hex.EncodeToString(r.digest.Sum(nil))
	return r.file, nil
}

var byteOrderMark = []byte("\ufeff")

// Instance is the identity under which the file's usage is written: its chunks are the
// batches 1, 2, … of that instance. The same bytes have the same one.
func (f *File) Instance() uuid.UUID {
	sum := sha256.Sum256(fmt.Appendf(nil, "tollgate usage import %s %d", f.SHA256, ChunkLines))
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80 // Version 8: made by a rule of our own.
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Chunks returns how many batches the file is written in.
func (f *File) Chunks() int { return (len(f.rows) + ChunkLines - 1) / ChunkLines }

// Chunk returns the rows of a batch, from 1 to [File.Chunks], in the order of the lines.
func (f *File) Chunk(n int) []meter.Row {
	return f.rows[(n-1)*ChunkLines : min(n*ChunkLines, len(f.rows))]
}

// Organizations returns how many organizations have usage in the file.
func (f *File) Organizations() int {
	seen := map[uuid.UUID]bool{}
	for i := range f.rows {
		seen[f.rows[i].Organization] = true
	}
	return len(seen)
}

// LinesByMonth counts the lines of each month, by its first day.
func (f *File) LinesByMonth() map[calendar.Day]int {
	lines := map[calendar.Day]int{}
	for i := range f.rows {
		lines[f.rows[i].Day.Month()]++
	}
	return lines
}

// errTooLong says that a file is beyond what is held in memory.
var errTooLong = fmt.Errorf("the file has more than %d lines: split it", MaxLines)

// errHeader ends a file whose header is wrong: its lines can't be read.
var errHeader = errors.New("the header is wrong")

type sumKey struct {
	organization uuid.UUID
	meter        string
	day          calendar.Day
}

type reader struct {
	config       Config
	today        calendar.Day
	file         *File
	digest       hash.Hash
	aggregations map[string]plans.Aggregation
	// sums holds what the file adds to each record of a sum.
	sums map[sumKey]int64
	// lastBroken is the last line that was counted as broken.
	lastBroken int
}

func (r *reader) problem(line int, field, rule string, args ...any) {
	if line != r.lastBroken {
		r.file.Broken++
		r.lastBroken = line
	}
	if len(r.file.Problems) < r.config.KeepProblems {
		r.file.Problems = append(r.file.Problems, Problem{Line: line, Field: field, Rule: fmt.Sprintf(rule, args...)})
	}
}

// fields are those of a line as they are written.
type fields struct{ organization, meter, day, value, at string }

// add takes a line. All of its problems are reported.
func (r *reader) add(line int, in fields) error {
	if r.file.Lines++; r.file.Lines > MaxLines {
		return errTooLong
	}
	broken := false
	report := func(field string, err error) {
		if err != nil {
			broken = true
			r.problem(line, field, "%s", err)
		}
	}
	row := meter.Row{Meter: in.meter}
	var err error
	row.Organization, err = r.parseOrganization(in.organization)
	report("organization_id", err)
	row.Aggregation, err = r.aggregationOf(in.meter)
	report("meter", err)
	row.Value, err = parseValue(in.value)
	report("value", err)
	row.Day, err = r.parseDay(in.day)
	report("day", err)
	if err == nil && in.at != "" {
		row.At, err = r.parseAt(in.at, row.Day)
		report("at", err)
	}
	if !broken && row.Aggregation == plans.Sum {
		report("value", r.addUp(row))
	}
	if broken {
		return nil
	}
	if len(r.file.rows) == 0 || row.Day < r.file.From {
		r.file.From = row.Day
	}
	r.file.To = max(r.file.To, row.Day)
	r.file.rows = append(r.file.rows, row)
	return nil
}

// addUp adds a row to what the file has of its day, unless no day holds that.
func (r *reader) addUp(row meter.Row) error {
	key := sumKey{row.Organization, row.Meter, row.Day}
	if row.Value > plans.MaxDaySum-r.sums[key] {
		return fmt.Errorf("must not take the sum of its day beyond %d", int64(plans.MaxDaySum))
	}
	r.sums[key] += row.Value
	return nil
}
