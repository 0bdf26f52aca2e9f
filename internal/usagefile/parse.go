package usagefile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/instant"
	"github.com/riverline/tollgate/plans"
)

// parseValue reads a whole number, as the API reads a quantity: 3, 3.0, 3e0.
func parseValue(text string) (int64, error) {
	value, err := plans.ParseQuantity(text)
	if err != nil {
		return 0, fmt.Errorf("%w, is %q", err, text)
	}
	return value, nil
}

func (r *reader) parseOrganization(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != len(uuid.Nil.String()) {
		return id, fmt.Errorf("must be the id of an organization, a UUID, is %q", text)
	}
	if !r.config.Organizations[id] {
		return id, fmt.Errorf("must be the id of an organization, there is none with %s", id)
	}
	return id, nil
}

func (r *reader) aggregationOf(meterKey string) (plans.Aggregation, error) {
	a, ok := r.aggregations[meterKey]
	if !ok {
		return a, fmt.Errorf("must be a meter of the catalog, %q is not", meterKey)
	}
	return a, nil
}

// parseDay reads a day that usage may be kept of, up to today.
func (r *reader) parseDay(text string) (calendar.Day, error) {
	day, err := calendar.ParseDay(text)
	switch {
	case err != nil:
		return day, fmt.Errorf("must be a day as 2026-10-31, is %q", text)
	case day > r.today:
		return day, fmt.Errorf("must not be after today, %s (UTC), is %s", r.today, day)
	case day < firstDay:
		return day, fmt.Errorf("must be %s or later, is %s", firstDay, day)
	}
	return day, nil
}

// parseAt reads a time, which must lie in the day and not in the future.
func (r *reader) parseAt(text string, day calendar.Day) (time.Time, error) {
	at, err := instant.Parse(text)
	switch {
	case err != nil:
		return at, err
	case calendar.DayOf(at) != day:
		return at, fmt.Errorf("must lie in the day %s (UTC), is %q", day, text)
	case at.After(r.config.Now):
		return at, fmt.Errorf("must not be in the future, is %q", text)
	}
	return at, nil
}

// required and optional are the columns.
var (
	required = []string{"organization_id", "meter", "day", "value"}
	optional = []string{"at"}
)

// readCSV reads a header and records.
func (r *reader) readCSV(from io.Reader) error {
	records := csv.NewReader(from)
	records.FieldsPerRecord = -1
	records.ReuseRecord = true
	header, err := records.Read()
	if errors.Is(err, io.EOF) {
		r.problem(1, "", "the file is empty: it must begin with a header of the columns %s", strings.Join(required, ","))
		return nil
	}
	var columns map[string]int
	if err == nil {
		columns, err = r.columns(header)
	}
	if errors.Is(err, errHeader) {
		return nil
	}
	for err == nil || r.malformed(err) {
		var record []string
		record, err = records.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			continue
		}
		line, _ := records.FieldPos(0)
		if len(record) != len(header) {
			r.file.Lines++
			r.problem(line, "", "must have %d columns, as the header has, has %d", len(header), len(record))
			continue
		}
		of := func(name string) string {
			if i, ok := columns[name]; ok {
				return record[i]
			}
			return ""
		}
		err = r.add(line, fields{of("organization_id"), of("meter"), of("day"), of("value"), of("at")})
	}
	return err
}

// malformed takes an error of the form of a line; another one isn't taken.
func (r *reader) malformed(err error) bool {
	var broken *csv.ParseError
	if !errors.As(err, &broken) {
		return false
	}
	r.file.Lines++
	r.problem(broken.StartLine, "", "is not CSV: %s in column %d", broken.Err, broken.Column)
	return true
}

// columns finds the columns in a header.
func (r *reader) columns(header []string) (map[string]int, error) {
	for _, separator := range []string{";", "\t", "|"} {
		if len(header) == 1 && strings.Contains(header[0], separator) {
			r.problem(1, "", "columns must be separated by commas, not by %q", separator)
			return nil, errHeader
		}
	}
	columns := map[string]int{}
	for i, name := range header {
		if !slices.Contains(required, name) && !slices.Contains(optional, name) {
			r.noColumn(1, name)
		} else if _, twice := columns[name]; twice {
			r.problem(1, name, "is there twice")
		}
		columns[name] = i
	}
	for _, name := range required {
		if _, ok := columns[name]; !ok {
			r.problem(1, name, "must be a column")
		}
	}
	if r.file.Broken > 0 {
		return nil, errHeader
	}
	return columns, nil
}

// maxJSONLine bounds a line of JSON, in bytes.
const maxJSONLine = 1 << 16

// readJSONL reads an object a line. Empty lines are passed over.
func (r *reader) readJSONL(from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxJSONLine)
	n := 0
	for lines.Scan() {
		n++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		in, ok := r.decode(n, text)
		if !ok {
			r.file.Lines++
			continue
		}
		if err := r.add(n, in); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		r.problem(n+1, "", "must have at most %d bytes", maxJSONLine)
		return nil
	}
	if lines.Err() == nil && n == 0 {
		r.problem(1, "", "the file is empty: it must have an object a line")
	}
	return lines.Err()
}

// checkNames holds that an object has columns alone, by their exact names, and each once:
// of one that is there twice nobody knows which is meant. What is no object, [reader.decode] reports.
func (r *reader) checkNames(line int, text []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return true
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if err != nil || !ok || decoder.Decode(&value) != nil {
			return true
		}
		switch {
		case !slices.Contains(required, name) && !slices.Contains(optional, name):
			r.noColumn(line, name)
			return false
		case seen[name]:
			r.problem(line, name, "is there twice")
			return false
		}
		seen[name] = true
	}
	return true
}

func (r *reader) noColumn(line int, name string) {
	r.problem(line, fmt.Sprintf("%q", name), "is no column: there are %s and %s", strings.Join(required, ", "), strings.Join(optional, ", "))
}

// decode reads an object, and reports what is wrong with its form.
func (r *reader) decode(line int, text []byte) (fields, bool) {
	var in struct {
		Organization *string         `json:"organization_id"`
		Meter        *string         `json:"meter"`
		Day          *string         `json:"day"`
		Value        json.RawMessage `json:"value"`
		At           string          `json:"at"`
	}
	if !r.checkNames(line, text) {
		return fields{}, false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(&in)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field != "":
		r.problem(line, wrongType.Field, "must be a string, is a %s", wrongType.Value)
		return fields{}, false
	case errors.As(err, &wrongType):
		r.problem(line, "", "must be an object, is a %s", wrongType.Value)
		return fields{}, false
	case err != nil || decoder.More():
		r.problem(line, "", "must be one JSON object")
		return fields{}, false
	}
	complete := true
	for i, missing := range []bool{in.Organization == nil, in.Meter == nil, in.Day == nil, in.Value == nil} {
		if missing {
			r.problem(line, required[i], "must be there")
			complete = false
		}
	}
	if !complete {
		return fields{}, false
	}
	value := string(in.Value)
	if in.Value[0] == '"' {
		_ = json.Unmarshal(in.Value, &value)
	}
	return fields{*in.Organization, *in.Meter, *in.Day, value, in.At}, true
}
