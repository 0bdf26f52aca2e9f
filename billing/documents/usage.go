package documents

import (
	"github.com/riverline/tollgate/billing"

	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/plans"
)

// ErrInvalidUsage is the root of every error about a usage total or a file of
// them. The error's text names the row, the field and the rule that is broken.
var ErrInvalidUsage = errors.New("invalid usage")

// maxUsageLine is the longest line of a usage file that is read, in bytes.
const maxUsageLine = 1 << 20

// validateUsage checks the rules of one total. Name, plan and unit may be empty: the
// organization may be gone.
func validateUsage(t billing.UsageTotal) error {
	switch {
	case t.Organization == uuid.Nil:
		return fmt.Errorf("%w: organization_id is missing", ErrInvalidUsage)
	case t.Meter == "":
		return fmt.Errorf("%w: meter is missing", ErrInvalidUsage)
	case !t.Aggregation.Valid():
		return fmt.Errorf("%w: aggregation %q must be sum, max or last", ErrInvalidUsage, t.Aggregation)
	case t.Value < 0:
		return fmt.Errorf("%w: value %d must be 0 or more", ErrInvalidUsage, t.Value)
	case t.UnitSeconds != "" && t.Aggregation != plans.Last:
		return fmt.Errorf("%w: unit_seconds must be left out where the aggregation is %s", ErrInvalidUsage, t.Aggregation)
	case t.UnitSeconds != "" && !microNumber(t.UnitSeconds):
		return fmt.Errorf("%w: unit_seconds %q must be a decimal number with at most 6 decimals", ErrInvalidUsage, t.UnitSeconds)
	}
	for _, field := range []struct{ name, text string }{
		{"organization_name", t.OrganizationName}, {"plan", t.Plan}, {"meter", t.Meter}, {"unit", t.Unit},
	} {
		if !utf8.ValidString(field.text) {
			return fmt.Errorf("%w: %s %q must be valid UTF-8", ErrInvalidUsage, field.name, field.text)
		}
	}
	return nil
}

// wholeNumber reports whether s is a decimal number of at most 60 digits, without a
// sign, a fraction or leading zeros.
func wholeNumber(s string) bool {
	if s == "" || len(s) > 60 || (s[0] == '0' && s != "0") {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// microNumber reports whether s is a whole number, or one with 1 to 6 decimals of which
// the last isn't zero.
func microNumber(s string) bool {
	whole, decimals, point := strings.Cut(s, ".")
	if !point {
		return wholeNumber(s)
	}
	digits := strings.Trim(decimals, "0123456789") == ""
	return wholeNumber(whole) && digits && len(decimals) >= 1 && len(decimals) <= 6 && !strings.HasSuffix(decimals, "0")
}

// sequence checks the order of rows: by organization, and within one by the place
// of the meter. Without an order of meters, each meter may come once.
type sequence struct {
	order        map[string]int
	organization uuid.UUID
	place        int
	seen         map[string]bool
}

func newSequence(meters []string) *sequence {
	s := &sequence{seen: map[string]bool{}}
	if meters != nil {
		s.order = make(map[string]int, len(meters))
		for i, meter := range meters {
			s.order[meter] = i
		}
	}
	return s
}

func (s *sequence) next(t billing.UsageTotal) error {
	switch bytes.Compare(t.Organization[:], s.organization[:]) {
	case -1:
		return fmt.Errorf("%w: organization_id %s comes after %s: rows are in the order of organization_id", ErrInvalidUsage, t.Organization, s.organization)
	case 1:
		s.organization, s.place = t.Organization, -1
		clear(s.seen)
	}
	if s.seen[t.Meter] {
		return fmt.Errorf("%w: organization_id %s has meter %q twice", ErrInvalidUsage, t.Organization, t.Meter)
	}
	s.seen[t.Meter] = true
	if s.order == nil {
		return nil
	}
	place, ok := s.order[t.Meter]
	if !ok {
		return fmt.Errorf("%w: meter %q of organization_id %s is not one of the catalog", ErrInvalidUsage, t.Meter, t.Organization)
	}
	if place < s.place {
		return fmt.Errorf("%w: meter %q of organization_id %s is out of the catalog's order", ErrInvalidUsage, t.Meter, t.Organization)
	}
	s.place = place
	return nil
}

// UsageWriter writes usage totals as JSONL: one object a line in the one canonical
// form, which is that of encoding/json for [billing.UsageTotal] without HTML escaping, and a
// newline after each. It counts and digests what it writes.
type UsageWriter struct {
	out      *bufio.Writer
	encoder  *json.Encoder
	digest   hash.Hash
	bytes    int64
	totals   *Totals
	sequence *sequence
}

// NewUsageWriter makes a writer of totals of the meters, which are given in their
// order. It takes the rows of any number of pages; the bytes depend on the rows alone.
func NewUsageWriter(w io.Writer, meters []plans.Meter) *UsageWriter {
	keys := make([]string, len(meters))
	for i, m := range meters {
		keys[i] = m.Key
	}
	u := &UsageWriter{digest: sha256.New(), totals: NewTotals(keys), sequence: newSequence(keys)}
	u.out = bufio.NewWriterSize(io.MultiWriter(w, u.digest, (*byteCounter)(&u.bytes)), 64<<10)
	u.encoder = json.NewEncoder(u.out)
	u.encoder.SetEscapeHTML(false)
	return u
}

type byteCounter int64

func (c *byteCounter) Write(p []byte) (int, error) {
	*c += byteCounter(len(p))
	return len(p), nil
}

// Write writes one total. It answers [ErrInvalidUsage] where the total breaks a
// rule, or comes out of the order of organization and meter.
func (u *UsageWriter) Write(t billing.UsageTotal) error {
	if err := validateUsage(t); err != nil {
		return err
	}
	if err := u.sequence.next(t); err != nil {
		return err
	}
	u.totals.Add(t)
	if err := u.encoder.Encode(t); err != nil {
		return fmt.Errorf("write usage of organization %s: %w", t.Organization, err)
	}
	return nil
}

// Flush writes what is buffered. Call it after the last row, before File.
func (u *UsageWriter) Flush() error {
	if err := u.out.Flush(); err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	return nil
}

// Rows returns how many rows were written.
func (u *UsageWriter) Rows() int64 { return u.totals.rows }

// File describes what was written and flushed, as the file of that name.
func (u *UsageWriter) File(name string) billing.File {
	return billing.File{Name: name, SHA256: hex.EncodeToString(u.digest.Sum(nil)), Bytes: u.bytes, Rows: u.Rows()}
}

// Totals returns the control totals of what was written.
func (u *UsageWriter) Totals() []billing.ControlTotal { return u.totals.List() }

// ReadUsageJSONL reads what a [UsageWriter] wrote, row by row, and refuses anything
// else: a row that breaks a rule, is out of order or not in the canonical form, and
// a last line without a newline. It ends at the first error, [ErrInvalidUsage] with
// the number of the line, or the reader's own.
func ReadUsageJSONL(r io.Reader) iter.Seq2[billing.UsageTotal, error] {
	return func(yield func(billing.UsageTotal, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		rows := newSequence(nil)
		for number := 1; ; number++ {
			line, err := readLine(in)
			if errors.Is(err, io.EOF) {
				return
			}
			var t billing.UsageTotal
			if err == nil {
				t, err = parseUsage(line)
			}
			if err == nil {
				err = rows.next(t)
			}
			if err != nil {
				yield(billing.UsageTotal{}, fmt.Errorf("line %d: %w", number, err))
				return
			}
			if !yield(t, nil) {
				return
			}
		}
	}
}

// readLine reads a line with its newline; io.EOF says that there is none left.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxUsageLine {
			return nil, fmt.Errorf("%w: the line is longer than %d bytes", ErrInvalidUsage, maxUsageLine)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, fmt.Errorf("%w: the line ends without a newline: the file is cut short", ErrInvalidUsage)
		default:
			return nil, err
		}
	}
}

func parseUsage(line []byte) (billing.UsageTotal, error) {
	var t billing.UsageTotal
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&t); err != nil {
		return billing.UsageTotal{}, fmt.Errorf("%w: %w", ErrInvalidUsage, err)
	}
	if err := validateUsage(t); err != nil {
		return billing.UsageTotal{}, err
	}
	var canonical bytes.Buffer
	encoder := json.NewEncoder(&canonical)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(t); err != nil {
		return billing.UsageTotal{}, fmt.Errorf("%w: %w", ErrInvalidUsage, err)
	}
	if !bytes.Equal(canonical.Bytes(), line) {
		return billing.UsageTotal{}, fmt.Errorf("%w: the row is not in the canonical form", ErrInvalidUsage)
	}
	return t, nil
}
