package documents

import (
	"github.com/riverline/tollgate/billing"

	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
)

// DryRunFormat is a form in which a dry run is written.
type DryRunFormat string

// The formats.
const (
	// DryRunTable is for people: organizations, then totals.
	DryRunTable DryRunFormat = "table"
	// DryRunCSV has one organization a record, and no totals.
	DryRunCSV DryRunFormat = "csv"
	// DryRunJSON is one object, with totals.
	DryRunJSON DryRunFormat = "json"
)

// DryRunWriter writes a dry run as it comes, and adds it up.
type DryRunWriter struct {
	format   DryRunFormat
	period   calendar.Period
	revision int
	out      io.Writer
	csv      *csv.Writer
	totals   billing.DryRunTotals
}

// DryRunWriterConfig is what a [DryRunWriter] is made from.
type DryRunWriterConfig struct {
	// Out is written to. Required.
	Out io.Writer
	// Format is one of the formats. Empty: table.
	Format DryRunFormat
	// Period and Revision are the export's. Required.
	Period   calendar.Period
	Revision int
}

var dryRunColumns = []string{
	"period", "revision", "organization_id", "organization_name", "plans", "kept_plans", "currency",
	"billed", "proposed", "difference", "percent", "reason",
}

// dryRunRow is a row of the table: a fixed width needs no look at all rows.
const dryRunRow = "%-36s  %-8s  %14s  %14s  %14s  %8s  %-16s  %s\n"

// NewDryRunWriter begins a document.
func NewDryRunWriter(config DryRunWriterConfig) (*DryRunWriter, error) {
	w := &DryRunWriter{format: config.Format, period: config.Period, revision: config.Revision, out: config.Out}
	switch w.format {
	case DryRunCSV:
		w.csv = csv.NewWriter(w.out)
		w.csv.UseCRLF = true
		return w, w.csv.Write(dryRunColumns)
	case DryRunJSON:
		_, err := fmt.Fprintf(w.out, `{"period":%q,"revision":%d,"organizations":[`, w.period, w.revision)
		return w, err
	default:
		_, err := fmt.Fprintf(w.out, dryRunRow, "ORGANIZATION", "CURRENCY", "BILLED", "PROPOSED", "DIFFERENCE", "PERCENT", "PLANS", "NAME")
		return w, err
	}
}

// Totals returns what was added up so far.
func (w *DryRunWriter) Totals() billing.DryRunTotals { return w.totals }

// Write writes one organization. They come in the order of their IDs.
func (w *DryRunWriter) Write(a billing.DryRunOrganization) error {
	first := w.totals.Organizations == 0
	w.totals.Add(a)
	switch w.format {
	case DryRunCSV:
		return w.csv.Write([]string{
			w.period.String(), strconv.Itoa(w.revision), a.Organization.String(), plainText(a.OrganizationName), strings.Join(a.Plans, ";"),
			strings.Join(a.KeptPlans, ";"), string(a.Currency), amountOr("", a.Billed), amountOr("", a.Proposed), amountOr("", a.Difference),
			a.Percent, plainText(a.Reason),
		})
	case DryRunJSON:
		document, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("write organization %s: %w", a.Organization, err)
		}
		separator := ",\n"
		if first {
			separator = "\n"
		}
		_, err = fmt.Fprintf(w.out, "%s%s", separator, document)
		return err
	default:
		name := a.OrganizationName
		if a.Reason != "" {
			name += ": " + a.Reason
		}
		_, err := fmt.Fprintf(w.out, dryRunRow, a.Organization, a.Currency, amountOr("-", a.Billed), amountOr("-", a.Proposed),
			amountOr("-", a.Difference), cmp.Or(a.Percent, "-"), strings.Join(a.Plans, ";"), name)
		return err
	}
}

// Close ends the document; it doesn't close what is written to.
func (w *DryRunWriter) Close() error {
	switch w.format {
	case DryRunCSV:
		w.csv.Flush()
		return w.csv.Error()
	case DryRunJSON:
		document, err := json.Marshal(listed(w.totals))
		if err != nil {
			return fmt.Errorf("write totals: %w", err)
		}
		_, err = fmt.Fprintf(w.out, "\n],\"totals\":%s}\n", document)
		return err
	default:
		if _, err := fmt.Fprintln(w.out); err != nil {
			return err
		}
		return WriteDryRunTotals(w.out, w.totals)
	}
}

// listed returns the totals with empty lists in place of none: null is no list in JSON.
func listed(t billing.DryRunTotals) billing.DryRunTotals {
	t.KeptPlans, t.Money = append([]string{}, t.KeptPlans...), append([]billing.DryRunMoney{}, t.Money...)
	return t
}

// dryRunTotal is a row of the totals.
const dryRunTotal = "%-8s  %13s  %16s  %16s  %16s  %8s  %8s  %8s  %8s\n"

// WriteDryRunTotals writes totals for people.
func WriteDryRunTotals(out io.Writer, t billing.DryRunTotals) error {
	if len(t.Money) > 0 {
		_, err := fmt.Fprintf(out, dryRunTotal, "CURRENCY", "ORGANIZATIONS", "BILLED", "PROPOSED", "DIFFERENCE", "PERCENT", "HIGHER", "LOWER", "SAME")
		if err != nil {
			return err
		}
	}
	for _, m := range t.Money {
		_, err := fmt.Fprintf(out, dryRunTotal, m.Currency, strconv.FormatInt(m.Organizations, 10), m.Billed.String(), m.Proposed.String(), m.Difference.String(),
			cmp.Or(m.Percent, "-"), strconv.FormatInt(m.Higher, 10), strconv.FormatInt(m.Lower, 10), strconv.FormatInt(m.Same, 10))
		if err != nil {
			return err
		}
	}
	text := fmt.Sprintf("Organizations: %d. Compared: %d, not ratable under the catalog: %d, not billed: %d.\n",
		t.Organizations, t.Compared, t.Unrated, t.Unbilled)
	if t.Kept > 0 {
		text += fmt.Sprintf("With a plan that the catalog doesn't name, and that keeps its prices: %d (%s).\n", t.Kept, strings.Join(t.KeptPlans, ", "))
	}
	_, err := io.WriteString(out, text)
	return err
}

// amountOr returns an amount as text, or a text in place of none.
func amountOr(none string, a *money.Amount) string {
	if a == nil {
		return none
	}
	return a.String()
}
