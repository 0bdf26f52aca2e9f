package documents

import (
	"github.com/riverline/tollgate/billing"

	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/plans"
)

// The names of an export's files of statements.
const (
	// StatementsFile holds one statement a line, with all of its arithmetic.
	StatementsFile = "statements.jsonl"
	// StatementsCSVFile holds one statement a record.
	StatementsCSVFile = "statements.csv"
	// LinesFile holds one line of a statement a record.
	LinesFile = "lines.csv"
)

// StatementFiles are the names of the files that [StatementWriter] writes.
func StatementFiles() []string {
	return []string{FocusFile, LinesFile, StatementsCSVFile, StatementsFile}
}

// Options say how files are written.
type Options struct {
	// Compress writes each file with gzip, and ".gz" after its name.
	Compress bool `json:"compress,omitempty"`
	// Focus is the version of FOCUS. Empty: [DefaultFocusVersion].
	Focus FocusVersion `json:"focus,omitempty"`
	// Issuer is who provides the service and issues statements, for FOCUS. Empty: "Tollgate".
	Issuer string `json:"issuer,omitempty"`
}

// WithDefaults fills in what was left out, and checks the rest.
func (o Options) WithDefaults() (Options, error) {
	if o.Focus == "" {
		o.Focus = DefaultFocusVersion
	}
	if o.Issuer == "" {
		o.Issuer = "Tollgate"
	}
	if !slices.Contains(FocusVersions(), o.Focus) {
		return o, fmt.Errorf("focus %q must be one of %v", o.Focus, FocusVersions())
	}
	return o, nil
}

// StatementWriter writes statements in every form at once, in one order: that of
// the organization. The same statements give the same bytes.
type StatementWriter struct {
	options    Options
	meters     map[string]plans.Meter
	files      []*FileWriter
	json       *json.Encoder
	statements *csv.Writer
	lines      *csv.Writer
	focus      *FocusWriter
	byName     map[string]*FileWriter
	lastOne    uuid.UUID
	anyWritten bool
}

// NewStatementWriter makes a writer. open returns where the file of a name goes;
// the names are those of [StatementFiles], compressed or not.
func NewStatementWriter(open func(name string) (io.Writer, error), meters []plans.Meter, options Options) (*StatementWriter, error) {
	options, err := options.WithDefaults()
	if err != nil {
		return nil, err
	}
	d := &StatementWriter{options: options, meters: map[string]plans.Meter{}, byName: map[string]*FileWriter{}}
	for _, m := range meters {
		d.meters[m.Key] = m
	}
	for _, name := range StatementFiles() {
		w, err := open(FileName(name, options.Compress))
		if err != nil {
			return nil, err
		}
		file := NewFileWriter(w, name, options.Compress)
		d.files = append(d.files, file)
		d.byName[name] = file
	}
	d.json = json.NewEncoder(d.byName[StatementsFile])
	d.json.SetEscapeHTML(false)
	d.statements, d.lines = csv.NewWriter(d.byName[StatementsCSVFile]), csv.NewWriter(d.byName[LinesFile])
	d.statements.UseCRLF, d.lines.UseCRLF = true, true
	if d.focus, err = NewFocusWriter(d.byName[FocusFile], FocusOptions{Version: options.Focus}); err != nil {
		return nil, err
	}
	return d, errors.Join(d.statements.Write(statementColumns), d.lines.Write(lineColumns))
}

var (
	statementColumns = []string{
		"number", "replaces", "period", "organization_id", "organization_name", "plan", "currency", "lines", "subtotal", "credits", "due",
	}
	lineColumns = []string{
		"number", "line", "period", "organization_id", "organization_name", "currency", "kind", "description", "plan", "plan_version",
		"meter", "unit", "start", "end", "quantity", "included", "billed", "exact", "amount", "rest", "corrects", "grant_id", "explanation",
	}
)

// Write writes a statement.
func (d *StatementWriter) Write(s billing.Statement) error {
	if d.anyWritten && strings.Compare(d.lastOne.String(), s.Organization.String()) >= 0 {
		return fmt.Errorf("%w: statement of organization %s comes after %s: they are in the order of the organization", ErrInvalidUsage, s.Organization, d.lastOne)
	}
	d.lastOne, d.anyWritten = s.Organization, true
	if err := d.json.Encode(s); err != nil {
		return fmt.Errorf("write statement of organization %s: %w", s.Organization, err)
	}
	d.byName[StatementsFile].AddRows(1)
	err := d.statements.Write([]string{
		s.Number, s.Replaces, s.Period.String(), s.Organization.String(), plainText(s.OrganizationName), s.Plan, string(s.Currency),
		strconv.Itoa(len(s.Lines)), s.Subtotal.String(), s.Credits.String(), s.Due.String(),
	})
	if err != nil {
		return fmt.Errorf("write statement of organization %s: %w", s.Organization, err)
	}
	d.byName[StatementsCSVFile].AddRows(1)
	for i, line := range s.Lines {
		if err := d.lines.Write(lineRecord(s, i, line)); err != nil {
			return fmt.Errorf("write lines of organization %s: %w", s.Organization, err)
		}
		d.byName[LinesFile].AddRows(1)
	}
	return d.writeFocus(s)
}

func lineRecord(s billing.Statement, i int, line billing.Line) []string {
	var quantity, included, billed, version, corrects, grant string
	if line.Charge != nil {
		quantity, included, billed = line.Charge.Quantity.String(), line.Charge.Included.String(), line.Charge.Billed.String()
	}
	if line.PlanVersion > 0 {
		version = strconv.Itoa(line.PlanVersion)
	}
	if line.Corrects != nil {
		corrects = line.Corrects.String()
	}
	if line.Grant != uuid.Nil {
		grant = line.Grant.String()
	}
	return []string{
		s.Number, strconv.Itoa(i + 1), s.Period.String(), s.Organization.String(), plainText(s.OrganizationName), string(s.Currency),
		string(line.Kind), plainText(line.Description), line.Plan, version, line.Meter, plainText(line.Unit),
		line.Start.Format(time.RFC3339Nano), line.End.Format(time.RFC3339Nano), quantity, included, billed,
		line.Exact, line.Amount.String(), line.Rest, corrects, grant, plainText(strings.Join(line.Explain(s.Currency), "; ")),
	}
}

// writeFocus writes the lines as FOCUS sees them: what lessens the usage of one meter
// is no charge of its own, but the difference of that charge's list and billed cost.
func (d *StatementWriter) writeFocus(s billing.Statement) error {
	for i, line := range s.Lines {
		if line.Kind == billing.LineDiscount && line.Meter != "" && i > 0 && s.Lines[i-1].Kind == billing.LineUsage {
			continue
		}
		row := d.focusRow(s, i, line)
		if i+1 < len(s.Lines) && line.Kind == billing.LineUsage {
			if next := s.Lines[i+1]; next.Kind == billing.LineDiscount && next.Meter == line.Meter {
				row.Billed = row.Billed.Add(next.Amount.Decimal)
			}
		}
		if err := d.focus.Write(row); err != nil {
			return err
		}
	}
	return nil
}

func (d *StatementWriter) focusRow(s billing.Statement, i int, line billing.Line) FocusRow {
	meter := d.meters[line.Meter]
	row := FocusRow{
		Statement: s.Number, Position: i + 1, Organization: s.Organization, OrganizationName: s.OrganizationName,
		Plan: FocusPlan{Key: line.Plan, Name: line.Plan, Version: line.PlanVersion}, Kind: FocusKind(line.Kind),
		ChargeStart: line.Start.Truncate(time.Second), ChargeEnd: line.End.Truncate(time.Second),
		BillingStart: s.Period.Start(), BillingEnd: s.Period.End(),
		Billed: line.Amount.Decimal, List: line.Amount.Decimal, Currency: s.Currency, Description: line.Description,
		Provider: d.options.Issuer, Publisher: d.options.Issuer, Issuer: d.options.Issuer,
	}
	if line.Meter != "" {
		row.Meter = FocusMeter{Key: line.Meter, Name: meter.Name, Unit: cmp.Or(meter.Unit, line.Unit, "unit")}
	}
	if !row.ChargeStart.Before(row.ChargeEnd) {
		// FOCUS knows whole seconds; a plan may have been in force for less.
		row.ChargeEnd = row.ChargeStart.Add(time.Second)
	}
	if line.Charge != nil {
		row.Quantity = decimal.NewNullDecimal(line.Charge.Quantity)
	}
	return row
}

// Close writes what is buffered. Call it after the last statement, before Files.
func (d *StatementWriter) Close() error {
	d.statements.Flush()
	d.lines.Flush()
	err := errors.Join(d.statements.Error(), d.lines.Error(), d.focus.Flush())
	d.byName[FocusFile].AddRows(d.focus.Rows())
	for _, f := range d.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// Files describes what was written and closed.
func (d *StatementWriter) Files() []billing.File {
	out := make([]billing.File, len(d.files))
	for i, f := range d.files {
		out[i] = f.File()
	}
	return out
}
