package documents_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/money"
)

var update = flag.Bool("update", false, "write the golden files anew")

func dec(text string) decimal.Decimal { return decimal.RequireFromString(text) }

func some(text string) decimal.NullDecimal { return decimal.NewNullDecimal(dec(text)) }

// focusRow returns a row of Acme's October, of which a test changes what it is about.
func focusRow(position int, kind documents.FocusKind, billed string, change func(*documents.FocusRow)) documents.FocusRow {
	row := documents.FocusRow{
		Statement: "TG-2026-10-000001", Position: position,
		Organization: uuid.MustParse("0199a000-0000-7000-8000-000000000001"), OrganizationName: `Acme "East", Inc.`,
		Plan: documents.FocusPlan{Key: "pro", Name: "Pro", Version: 3}, Kind: kind,
		ChargeStart: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), ChargeEnd: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		BillingStart: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), BillingEnd: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Billed: dec(billed), List: dec(billed), Currency: "USD", Description: "Line " + string(kind),
		Provider: "Riverline", Publisher: "Riverline", Issuer: "Riverline, Inc.",
	}
	if change != nil {
		change(&row)
	}
	return row
}

func metered(quantity, price string) func(*documents.FocusRow) {
	return func(r *documents.FocusRow) {
		r.Meter = documents.FocusMeter{Key: "evaluations", Name: "Evaluations", Unit: "Evaluations"}
		r.Quantity = some(quantity)
		if price != "" {
			r.UnitPrice = some(price)
		}
	}
}

// goldenRows holds every kind, and every way in which a price is found.
func goldenRows() []documents.FocusRow {
	september := func(r *documents.FocusRow) {
		r.ChargeStart, r.ChargeEnd = r.ChargeStart.AddDate(0, -1, 0), r.ChargeStart
	}
	return []documents.FocusRow{
		focusRow(1, documents.FocusBaseFee, "99.00", nil),
		focusRow(2, documents.FocusBaseFee, "-12.77", func(r *documents.FocusRow) { r.Description = "Rest of Starter, given back" }),
		// The price of one unit is known, and the amount is rounded.
		focusRow(3, documents.FocusUsage, "1.23", metered("1234567", "0.000001")),
		// Discounted by 10 %: two prices.
		focusRow(4, documents.FocusUsage, "90.00", func(r *documents.FocusRow) {
			metered("1000", "0.1")(r)
			r.List = dec("100.00")
		}),
		// Tiers: an average price.
		focusRow(5, documents.FocusUsage, "55.55", metered("700", "")),
		// A minimum of a package for nothing used: no average.
		focusRow(6, documents.FocusUsage, "5.00", metered("0", "0.1")),
		focusRow(7, documents.FocusUsage, "0.00", metered("0", "0.1")),
		focusRow(8, documents.FocusMinimum, "44.45", nil),
		focusRow(9, documents.FocusDiscount, "-28.25", nil),
		focusRow(10, documents.FocusCorrection, "-3.50", func(r *documents.FocusRow) {
			metered("-35", "0.1")(r)
			september(r)
		}),
		focusRow(11, documents.FocusCorrection, "-1.00", september),
		focusRow(12, documents.FocusCorrection, "2.00", func(r *documents.FocusRow) {
			metered("0", "")(r)
			r.Quantity = decimal.NullDecimal{}
			september(r)
		}),
		focusRow(13, documents.FocusCredit, "-20.00", nil),
		// No minor unit, another organization without a name or a plan, no statement yet.
		focusRow(0, documents.FocusUsage, "1500", func(r *documents.FocusRow) {
			metered("3.5", "428.571428571428")(r)
			r.Statement, r.OrganizationName, r.Plan, r.Currency = "", "", documents.FocusPlan{}, "JPY"
			r.Organization = uuid.MustParse("0199a000-0000-7000-8000-000000000002")
			r.ChargeStart = r.ChargeStart.In(time.FixedZone("", 7200))
		}),
	}
}

func focusText(t testing.TB, options documents.FocusOptions, rows ...documents.FocusRow) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := documents.NewFocusWriter(&out, options)
	require.NoError(t, err)
	for _, row := range rows {
		require.NoError(t, w.Write(row))
	}
	require.NoError(t, w.Flush())
	require.Equal(t, int64(len(rows)), w.Rows())
	return out.Bytes()
}

func focusRecords(t testing.TB, text []byte) (header []string, records []focusRecord) {
	t.Helper()
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	require.NoError(t, err)
	for _, fields := range all[1:] {
		record := focusRecord{}
		for i, id := range all[0] {
			record[id] = fields[i]
		}
		records = append(records, record)
	}
	return all[0], records
}

func TestFocusGolden(t *testing.T) {
	t.Parallel()
	for _, version := range documents.FocusVersions() {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			text := focusText(t, documents.FocusOptions{Version: version, Service: "Tollgate", Category: "Developer Tools", Subcategory: "Developer Platforms"}, goldenRows()...)
			name := filepath.Join("testdata", "focus", "focus-"+string(version)+".csv")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o750))
				require.NoError(t, os.WriteFile(name, text, 0o600))
			}
			want, err := os.ReadFile(name)
			require.NoError(t, err)
			require.Equal(t, string(want), string(text))

			header, records := focusRecords(t, text)
			requireFocusHeader(t, version, header)
			requireFocusDataset(t, version, records)
			// "Billed Cost": the sum of an invoice is what is payable.
			sum, want2 := decimal.Zero, decimal.Zero
			for i, row := range goldenRows() {
				if row.Statement != "" {
					sum, want2 = sum.Add(records[i].number("BilledCost")), want2.Add(row.Billed)
				}
			}
			require.Equal(t, want2.String(), sum.String())
		})
	}
}

// The header is the specification's columns in its order, then ours ("Column Handling").
func requireFocusHeader(t *testing.T, version documents.FocusVersion, header []string) {
	t.Helper()
	schema := focusSchemaOf(version)
	require.Len(t, schema, map[documents.FocusVersion]int{documents.Focus12: 57, documents.Focus13: 65, documents.Focus14: 65}[version])
	for i, column := range schema {
		require.Equal(t, column.id, header[i])
	}
	for i, id := range header {
		require.Regexp(t, `^(x_)?[A-Z][A-Za-z]{0,49}$`, id)
		require.Equal(t, i >= len(schema), strings.HasPrefix(id, "x_"), id)
	}
}

// What rows of each kind come to, beyond what the rules say.
func TestFocusOfEachKind(t *testing.T) {
	t.Parallel()
	_, records := focusRecords(t, focusText(t, documents.FocusOptions{}, goldenRows()...))
	for i, want := range []string{
		"Purchase//Recurring 1 Units 99 99",
		"Purchase//Recurring -1 Units 12.77 12.77",
		"Usage//Usage-Based 1234567 Evaluations 0.000001 0.000001",
		"Usage//Usage-Based 1000 Evaluations 0.1 0.09",
		"Usage//Usage-Based 700 Evaluations 0.0793571 0.0793571",
		"Usage//Usage-Based 1 Units 5 5",
		"Usage//Usage-Based 0 Evaluations 0.1 0.1",
		"Adjustment//One-Time    ",
		"Credit//One-Time    ",
		"Usage/Correction/One-Time -35 Evaluations 0.1 0.1",
		"Adjustment/Correction/One-Time    ",
		"Usage/Correction/One-Time    ",
		"Credit//One-Time    ",
		"Usage//Usage-Based 3.5 Evaluations 428.571428571428 428.571428571428",
	} {
		r := records[i]
		got := r["ChargeCategory"] + "/" + r["ChargeClass"] + "/" + r["ChargeFrequency"] + " " +
			strings.Join([]string{r["PricingQuantity"], r["PricingUnit"], r["ListUnitPrice"], r["ContractedUnitPrice"]}, " ")
		require.Equal(t, want, got, "row %d", i+1)
	}
	last := records[len(records)-1]
	require.Equal(t, "1500", last["BilledCost"], "yen have no decimals")
	require.Equal(t, "2026-10-01T00:00:00Z", last["ChargePeriodStart"])
	require.Equal(t, "Riverline", last["ServiceName"])
	require.Equal(t, "Other (Other)", last["ServiceSubcategory"])
}

// Whatever is billed, the rules hold.
func TestFocusLaws(t *testing.T) {
	t.Parallel()
	kinds := []documents.FocusKind{
		documents.FocusBaseFee, documents.FocusUsage, documents.FocusMinimum, documents.FocusDiscount, documents.FocusCorrection, documents.FocusCredit,
	}
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
		row := focusRow(1, kind, "0", nil)
		row.Currency = rapid.SampledFrom([]money.Currency{"USD", "JPY", "KWD", "RSD", "CLF", "BGN"}).Draw(rt, "currency")
		row.Billed = decimal.New(rapid.Int64Range(-1e12, 1e12).Draw(rt, "billed"), -row.Currency.Digits())
		row.List = row.Billed.Add(decimal.New(rapid.Int64Range(0, 1e9).Draw(rt, "discount"), -row.Currency.Digits()))
		if kind == documents.FocusUsage || (kind == documents.FocusCorrection && rapid.Bool().Draw(rt, "metered")) {
			metered("0", "")(&row)
			row.Quantity = decimal.NewNullDecimal(decimal.New(rapid.Int64Range(-1e15, 1e15).Draw(rt, "quantity"), int32(rapid.IntRange(-9, 3).Draw(rt, "exponent"))))
			if rapid.Bool().Draw(rt, "priced") {
				row.UnitPrice = decimal.NewNullDecimal(decimal.New(rapid.Int64Range(0, 1e12).Draw(rt, "price"), -12))
			}
		}
		version := rapid.SampledFrom(documents.FocusVersions()).Draw(rt, "version")
		text := focusText(t, documents.FocusOptions{Version: version}, row)
		require.Equal(rt, text, focusText(t, documents.FocusOptions{Version: version}, row), "the same row, the same bytes")
		_, records := focusRecords(t, text)
		require.Empty(rt, focusBroken(version, records[0]))
		require.True(rt, records[0].number("BilledCost").Equal(row.Billed))
	})
}

// A rule that nothing breaks guards nothing: each one is broken by one of these.
func TestFocusRulesBite(t *testing.T) {
	t.Parallel()
	_, records := focusRecords(t, focusText(t, documents.FocusOptions{Version: documents.Focus14}, goldenRows()...))
	const fee, usage, discount = 0, 3, 8
	bitten := map[string]bool{}
	for _, wrong := range []struct {
		row       int
		id, value string
	}{
		{fee, "BillingAccountId", ""},
		{fee, "BillingAccountType", ""},
		{fee, "ChargeCategory", "Fee"},
		{fee, "ChargeClass", "Refund"},
		{fee, "ChargeClass", "Correction"},
		{fee, "ChargeDescription", ""},
		{fee, "ChargeFrequency", "Monthly"},
		{fee, "ChargeFrequency", "Usage-Based"},
		{fee, "ChargePeriodEnd", "2026-10-01T00:00:00Z"},
		{fee, "BillingPeriodEnd", "2026-10-01T00:00:00Z"},
		{fee, "ConsumedQuantity", "1"},
		{usage, "ConsumedQuantity", ""},
		{usage, "ConsumedUnit", ""},
		{usage, "ContractedUnitPrice", ""},
		{usage, "ContractedUnitPrice", "0.1"},
		{discount, "ContractedCost", "1.00"},
		{discount, "ListCost", "1.00"},
		{discount, "ChargeCategory", "Adjustment"},
		{discount, "EffectiveCost", "0.00"},
		{usage, "EffectiveCost", "0.00"},
		{fee, "HostProviderName", "Elsewhere"},
		{fee, "InvoiceDetailId", ""},
		{usage, "ListUnitPrice", ""},
		{usage, "ListUnitPrice", "1"},
		{usage, "ListUnitPrice", "-0.1"},
		{fee, "PricingCategory", "Cheap"},
		{fee, "PricingCategory", ""},
		{usage, "PricingCurrencyContractedUnitPrice", "2"},
		{usage, "PricingCurrencyEffectiveCost", "2"},
		{usage, "PricingCurrencyListUnitPrice", "2"},
		{usage, "PricingQuantity", ""},
		{usage, "PricingUnit", ""},
		{fee, "ServiceSubcategory", "Bots"},
		{fee, "SkuId", ""},
		{fee, "SkuMeter", ""},
		{discount, "SkuPriceDetails", "{}"},
		{fee, "SkuPriceId", ""},
		{fee, "SubAccountName", "x"},
		{fee, "SubAccountType", "x"},
		{fee, "BilledCost", "1,000.00"},
		{fee, "BilledCost", "+1"},
		{fee, "BillingCurrency", "usd"},
		{fee, "RegionName", "N/A"},
		{fee, "BillingPeriodStart", "2026-10-01"},
		{fee, "Tags", "[]"},
	} {
		record := maps.Clone(records[wrong.row])
		record[wrong.id] = wrong.value
		broken := focusBroken(documents.Focus14, record)
		require.NotEmpty(t, broken, "%s = %q", wrong.id, wrong.value)
		for _, rule := range broken {
			bitten[rule] = true
		}
	}
	for _, rule := range focusRules {
		require.True(t, bitten[rule.section+": "+rule.says], "%s: %s", rule.section, rule.says)
	}
	gone := maps.Clone(records[fee])
	delete(gone, "BilledCost")
	require.Contains(t, focusBroken(documents.Focus14, gone), "BilledCost: present")
}

func TestFocusRefuses(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*documents.FocusRow){
		`kind "gift" is not known`:                             func(r *documents.FocusRow) { r.Kind = "gift" },
		`currency "usd" is no code of ISO 4217`:                func(r *documents.FocusRow) { r.Currency = "usd" },
		"billed 1.005 is no whole number of minor units":       func(r *documents.FocusRow) { r.Billed = dec("1.005") },
		"unit price -1 must not be negative":                   func(r *documents.FocusRow) { r.UnitPrice = some("-1") },
		"kind usage needs a meter and a quantity":              func(r *documents.FocusRow) { r.Kind = documents.FocusUsage },
		"quantity needs the unit of a meter":                   func(r *documents.FocusRow) { r.Quantity = some("1") },
		"position must be 1 or more":                           func(r *documents.FocusRow) { r.Position = 0 },
		"organization is missing":                              func(r *documents.FocusRow) { r.Organization = uuid.Nil },
		"provider is missing":                                  func(r *documents.FocusRow) { r.Provider = "" },
		"publisher is missing":                                 func(r *documents.FocusRow) { r.Publisher = "" },
		"issuer is missing":                                    func(r *documents.FocusRow) { r.Issuer = "" },
		"periods must begin before they end":                   func(r *documents.FocusRow) { r.ChargeEnd = r.ChargeStart },
		"periods must be in whole seconds: 2026-10-01T00:00:0": func(r *documents.FocusRow) { r.ChargeStart = r.ChargeStart.Add(1) },
	} {
		var out bytes.Buffer
		w, err := documents.NewFocusWriter(&out, documents.FocusOptions{Version: documents.Focus14})
		require.NoError(t, err)
		err = w.Write(focusRow(1, documents.FocusBaseFee, "1.00", change))
		require.ErrorIs(t, err, documents.ErrInvalidFocus)
		require.ErrorContains(t, err, says)
		require.NoError(t, w.Flush())
		require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), "only the header")
	}
	_, err := documents.NewFocusWriter(&bytes.Buffer{}, documents.FocusOptions{Version: "0.5"})
	require.ErrorContains(t, err, `version "0.5" is not known: this program knows [1.2 1.3 1.4]`)
	_, err = documents.NewFocusWriter(&bytes.Buffer{}, documents.FocusOptions{Category: "Web"})
	require.ErrorContains(t, err, "needs a subcategory")
	require.True(t, slices.Contains(documents.FocusVersions(), documents.DefaultFocusVersion))
}

type deadPipe struct{}

func (deadPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestFocusShowsFailedWrites(t *testing.T) {
	t.Parallel()
	w, err := documents.NewFocusWriter(deadPipe{}, documents.FocusOptions{})
	require.NoError(t, err)
	require.ErrorContains(t, w.Flush(), "write FOCUS: broken pipe")
	require.ErrorContains(t, w.Write(focusRow(1, documents.FocusBaseFee, "1.00", nil)), "broken pipe")
}
