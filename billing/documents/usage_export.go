package documents

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// BillingExport is the usage of all organizations over a range of days, for
// external billing systems.
type BillingExport struct {
	// From and To are the first and the last day, both included.
	From calendar.Day `json:"from"`
	To   calendar.Day `json:"to"`
	// Organizations are in the order of their id. There is one for each that used something.
	Organizations []OrganizationUsage `json:"organizations"`
}

// OrganizationUsage is what one organization used.
type OrganizationUsage struct {
	ID   uuid.UUID `json:"organization_id"`
	Name string    `json:"organization_name"`
	// Plan is the key of its plan.
	Plan string `json:"plan"`
	// Usage is in the order of the catalog's meters.
	Usage []MeterUsage `json:"usage"`
}

// MeterUsage is how much of one meter was used.
type MeterUsage struct {
	Meter       string            `json:"meter"`
	Unit        string            `json:"unit"`
	Aggregation plans.Aggregation `json:"aggregation"`
	// Value folds the days: their sum, their highest peak, or the last snapshot.
	Value int64 `json:"value"`
}

// NewBillingExport groups totals by organization. The totals of one organization
// follow each other; their order is kept.
func NewBillingExport(from, to calendar.Day, totals []billing.UsageTotal) BillingExport {
	export := BillingExport{From: from, To: to, Organizations: []OrganizationUsage{}}
	for _, t := range totals {
		last := len(export.Organizations) - 1
		if last < 0 || export.Organizations[last].ID != t.Organization {
			export.Organizations = append(export.Organizations, OrganizationUsage{ID: t.Organization, Name: t.OrganizationName, Plan: t.Plan})
			last++
		}
		export.Organizations[last].Usage = append(export.Organizations[last].Usage,
			MeterUsage{Meter: t.Meter, Unit: t.Unit, Aggregation: t.Aggregation, Value: t.Value})
	}
	return export
}

var csvHeader = []string{"organization_id", "organization_name", "plan", "meter", "unit", "aggregation", "value"}

// UsageCSVWriter writes usage totals as CSV (RFC 4180): a header, then one record a
// total. Text that a spreadsheet would take for a formula, beginning with =, +, -, @,
// a tab or the end of a line, is written with an apostrophe before it.
type UsageCSVWriter struct {
	out    *csv.Writer
	headed bool
}

// NewUsageCSVWriter makes a writer to w.
func NewUsageCSVWriter(w io.Writer) *UsageCSVWriter {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	return &UsageCSVWriter{out: out}
}

// Write writes one total.
func (c *UsageCSVWriter) Write(t billing.UsageTotal) error {
	if err := c.head(); err != nil {
		return err
	}
	err := c.out.Write([]string{
		t.Organization.String(), plainText(t.OrganizationName), plainText(t.Plan), plainText(t.Meter), plainText(t.Unit),
		string(t.Aggregation), strconv.FormatInt(t.Value, 10),
	})
	if err != nil {
		return fmt.Errorf("write usage of organization %s: %w", t.Organization, err)
	}
	return nil
}

// Flush writes what is buffered, the header included where there was no total.
func (c *UsageCSVWriter) Flush() error {
	if err := c.head(); err != nil {
		return err
	}
	c.out.Flush()
	if err := c.out.Error(); err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	return nil
}

func (c *UsageCSVWriter) head() error {
	if c.headed {
		return nil
	}
	c.headed = true
	if err := c.out.Write(csvHeader); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	return nil
}

// plainText keeps a spreadsheet from running text as a formula (OWASP, "CSV injection"): also where
// blanks come first, or the characters are those of full width.
func plainText(s string) string {
	first := strings.TrimLeftFunc(s, func(r rune) bool { return r == ' ' || r == '\u00a0' || r == '\u3000' || unicode.Is(unicode.Cf, r) })
	if r, _ := utf8.DecodeRuneInString(first); strings.ContainsRune("=+-@\t\r\n＝＋－＠", r) && first != "" {
		return "'" + s
	}
	return s
}
