package documents

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// FocusFile is the name of an export's file of costs in the form of FOCUS.
const FocusFile = "focus_cost_and_usage.csv"

// FocusVersion is a version of the FinOps Open Cost and Usage Specification
// (https://focus.finops.org), of which [FocusWriter] writes the dataset Cost and Usage.
type FocusVersion string

// The versions that can be written. 1.3 names the service provider and the host beside
// provider and publisher, which 1.4 leaves out; 1.4 identifies an invoice's lines.
const (
	Focus12 FocusVersion = "1.2"
	Focus13 FocusVersion = "1.3"
	Focus14 FocusVersion = "1.4"
)

// DefaultFocusVersion is what is written where no version is asked for.
const DefaultFocusVersion = Focus12

// FocusVersions returns the versions that can be written, the oldest first.
func FocusVersions() []FocusVersion { return []FocusVersion{Focus12, Focus13, Focus14} }

// ErrInvalidFocus is the root of the errors about a row or an option that can't be
// written. The error's text names the field and the rule.
var ErrInvalidFocus = errors.New("invalid FOCUS row")

// FocusKind says what a row charges for.
type FocusKind string

// The kinds of rows.
const (
	// FocusBaseFee is the fee of a plan.
	FocusBaseFee FocusKind = "base_fee"
	// FocusUsage is what was used of a meter.
	FocusUsage FocusKind = "usage"
	// FocusMinimum is what is missing to a minimum that was agreed.
	FocusMinimum FocusKind = "minimum"
	// FocusDiscount is a discount on a whole statement. What lessens one line alone is
	// no row of its own: it is the difference of that row's amounts.
	FocusDiscount FocusKind = "discount"
	// FocusCorrection corrects a statement of an earlier period, which was issued.
	FocusCorrection FocusKind = "correction"
	// FocusCredit is what the organization is granted.
	FocusCredit FocusKind = "credit"
)

// FocusRow is one line of a statement, with what FOCUS wants to know of it.
type FocusRow struct {
	// Statement is the statement's number; empty while there is none.
	Statement string
	// Position is the line's place within the statement, from 1.
	Position int
	// Organization is who pays.
	Organization     uuid.UUID
	OrganizationName string
	Plan             FocusPlan
	// Meter is the zero value for what no meter measures.
	Meter FocusMeter
	Kind  FocusKind
	// ChargeStart and ChargeEnd bound what is charged for, [start, end), in whole
	// seconds; of a correction, what is corrected.
	ChargeStart, ChargeEnd time.Time
	// BillingStart and BillingEnd bound the statement's period, [start, end).
	BillingStart, BillingEnd time.Time
	// Quantity is how many units are charged; absent for what isn't counted.
	Quantity decimal.NullDecimal
	// UnitPrice is the list price of one unit; absent where there is no single one.
	UnitPrice decimal.NullDecimal
	// Billed is the amount that is payable, a whole number of the currency's minor units.
	Billed decimal.Decimal
	// List is the amount before any discount that lessened this line; as Billed where
	// there was none. Only lines of fees and usage, and corrections of usage, have one.
	List        decimal.Decimal
	Currency    money.Currency
	Description string
	// Provider offers the service, Publisher makes it, Issuer issues the statement.
	Provider, Publisher, Issuer string
}

// FocusPlan is the version of a plan by which a row is priced.
type FocusPlan struct {
	Key, Name string
	// Version counts from 1; 0 where there is no plan.
	Version int
}

// FocusMeter is the meter whose usage a row charges.
type FocusMeter struct {
	Key, Name, Unit string
}

// FocusOptions say what a [FocusWriter] writes. The zero value is usable.
type FocusOptions struct {
	// Version is [DefaultFocusVersion] where it is empty.
	Version FocusVersion
	// Service names what is sold; a row's provider where it is empty.
	Service string
	// Category and Subcategory classify it by FOCUS's lists (sections "Service Category"
	// and "Service Subcategory"); "Other" and "Other (Other)" where Category is empty.
	Category, Subcategory string
}

// FocusWriter writes rows as CSV by the FinOps FOCUS specification: every column of
// the version in the specification's order, then Tollgate's own, whose names begin with
// x_. What isn't known is an empty field, which is FOCUS's null in CSV. Text that a
// spreadsheet would take for a formula has an apostrophe before it, as in every other
// CSV here: FOCUS says nothing of it, and these files are opened by people. The same rows
// give the same bytes. It isn't safe for concurrent use.
type FocusWriter struct {
	out     *csv.Writer
	options FocusOptions
	columns []focusColumn
	fields  []string
	rows    int64
}

// NewFocusWriter returns a writer. The header is written with it, so that a file
// without rows is one of no charges. The error is [ErrInvalidFocus] where the version
// isn't known or a category has no subcategory.
func NewFocusWriter(w io.Writer, options FocusOptions) (*FocusWriter, error) {
	if options.Version == "" {
		options.Version = DefaultFocusVersion
	}
	if options.Category == "" {
		options.Category, options.Subcategory = "Other", "Other (Other)"
	}
	if options.Subcategory == "" {
		return nil, fmt.Errorf("%w: the service category %q needs a subcategory", ErrInvalidFocus, options.Category)
	}
	columns := focusColumnsOf(options.Version)
	if columns == nil {
		return nil, fmt.Errorf("%w: version %q is not known: this program knows %v", ErrInvalidFocus, options.Version, FocusVersions())
	}
	writer := &FocusWriter{out: csv.NewWriter(w), options: options, columns: columns, fields: make([]string, len(columns))}
	for i, column := range columns {
		writer.fields[i] = column.id
	}
	return writer, writer.put()
}

// Write writes a row. The error is [ErrInvalidFocus] where a rule of [FocusRow] is
// broken; then nothing of the row was written.
func (w *FocusWriter) Write(row FocusRow) error {
	if err := row.validate(w.options.Version); err != nil {
		return err
	}
	charge := chargeOf(row.plain(), w.options)
	for i, column := range w.columns {
		w.fields[i] = ""
		if column.value != nil {
			w.fields[i] = column.value(&charge)
		}
	}
	if err := w.put(); err != nil {
		return err
	}
	w.rows++
	return nil
}

func (w *FocusWriter) put() error {
	if err := w.out.Write(w.fields); err != nil {
		return fmt.Errorf("write FOCUS: %w", err)
	}
	return nil
}

// Flush writes what is buffered. It must be called after the last row.
func (w *FocusWriter) Flush() error {
	w.out.Flush()
	if err := w.out.Error(); err != nil {
		return fmt.Errorf("write FOCUS: %w", err)
	}
	return nil
}

// Rows returns how many rows were written, without the header.
func (w *FocusWriter) Rows() int64 { return w.rows }

// validate checks what no column could show otherwise.
func (r FocusRow) validate(version FocusVersion) error {
	broken := func(field, rule string, args ...any) error {
		return fmt.Errorf("%w %d of %q: %s %s", ErrInvalidFocus, r.Position, r.Statement, field, fmt.Sprintf(rule, args...))
	}
	if _, known := focusKinds[r.Kind]; !known {
		return broken("kind", "%q is not known", r.Kind)
	}
	if !r.Currency.Known() {
		return broken("currency", "%q is no code of ISO 4217", r.Currency)
	}
	if !r.Billed.Equal(r.Billed.Truncate(r.Currency.Digits())) {
		return broken("billed", "%s is no whole number of minor units of %s", r.Billed, r.Currency)
	}
	if r.UnitPrice.Valid && r.UnitPrice.Decimal.IsNegative() {
		return broken("unit price", "%s must not be negative", r.UnitPrice.Decimal)
	}
	if r.Kind == FocusUsage && (r.Meter.Key == "" || !r.Quantity.Valid) {
		return broken("kind", "usage needs a meter and a quantity")
	}
	if r.Quantity.Valid && r.Meter.Unit == "" {
		return broken("quantity", "needs the unit of a meter")
	}
	if version == Focus14 && r.Statement != "" && r.Position < 1 {
		return broken("position", "must be 1 or more, as FOCUS 1.4 identifies the lines of an invoice")
	}
	if r.Organization == uuid.Nil {
		return broken("organization", "is missing")
	}
	for field, value := range map[string]string{"provider": r.Provider, "publisher": r.Publisher, "issuer": r.Issuer} {
		if value == "" {
			return broken(field, "is missing")
		}
	}
	if !r.ChargeStart.Before(r.ChargeEnd) || !r.BillingStart.Before(r.BillingEnd) {
		return broken("periods", "must begin before they end")
	}
	for _, at := range []time.Time{r.ChargeStart, r.ChargeEnd, r.BillingStart, r.BillingEnd} {
		if at.Nanosecond() != 0 {
			return broken("periods", "must be in whole seconds: %s", at.UTC().Format(time.RFC3339Nano))
		}
	}
	return nil
}

// plain returns the row with texts that no spreadsheet takes for formulas.
func (r FocusRow) plain() FocusRow {
	for _, text := range []*string{
		&r.OrganizationName, &r.Description, &r.Plan.Name, &r.Meter.Name, &r.Meter.Unit, &r.Provider, &r.Publisher, &r.Issuer,
	} {
		*text = plainText(*text)
	}
	return r
}

// focusTime writes a moment by FOCUS's attribute "Date/Time Format".
func focusTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// focusAmount writes an amount with all decimals of the currency, and with more where
// it has more, by FOCUS's attribute "Numeric Format".
func focusAmount(amount decimal.Decimal, c money.Currency) string {
	if amount.Equal(amount.Truncate(c.Digits())) {
		return money.Format(amount, c)
	}
	return amount.String()
}

func focusNumber(n decimal.NullDecimal) string {
	if !n.Valid {
		return ""
	}
	return n.Decimal.String()
}

func focusCount(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
