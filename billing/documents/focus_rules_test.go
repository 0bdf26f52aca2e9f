package documents_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/money"
)

// focusSchema is the specification's table of columns: Column ID, data type, whether
// nulls are allowed, and the versions that have it. A column's section is its display
// name: the ID in words.
const focusSchema = `
AllocatedMethodDetails JSON null 1.3
AllocatedMethodId String null 1.3
AllocatedResourceId String null 1.3
AllocatedResourceName String null 1.3
AllocatedTags JSON null 1.3
AvailabilityZone String null 1.2
BilledCost Decimal notnull 1.2
BillingAccountId String notnull 1.2
BillingAccountName String null 1.2
BillingAccountType String notnull 1.2
BillingCurrency Currency notnull 1.2
BillingPeriodEnd DateTime notnull 1.2
BillingPeriodStart DateTime notnull 1.2
CapacityReservationId String null 1.2
CapacityReservationStatus String null 1.2
ChargeCategory String notnull 1.2
ChargeClass String null 1.2
ChargeDescription String null 1.2
ChargeFrequency String notnull 1.2
ChargePeriodEnd DateTime notnull 1.2
ChargePeriodStart DateTime notnull 1.2
CommitmentDiscountCategory String null 1.2
CommitmentDiscountId String null 1.2
CommitmentDiscountName String null 1.2
CommitmentDiscountQuantity Decimal null 1.2
CommitmentDiscountStatus String null 1.2
CommitmentDiscountType String null 1.2
CommitmentDiscountUnit String null 1.2
CommitmentProgramEligibilityDetails JSON null 1.4
ConsumedQuantity Decimal null 1.2
ConsumedUnit String null 1.2
ContractApplied JSON null 1.3
ContractedCost Decimal notnull 1.2
ContractedUnitPrice Price null 1.2
EffectiveCost Decimal notnull 1.2
HostProviderName String notnull 1.3
InvoiceDetailId String null 1.4
InvoiceId String null 1.2
InvoiceIssuerName String notnull 1.2
ListCost Decimal notnull 1.2
ListUnitPrice Price null 1.2
PricingCategory String null 1.2
PricingCurrency Currency notnull 1.2
PricingCurrencyContractedUnitPrice Price null 1.2
PricingCurrencyEffectiveCost Decimal notnull 1.2
PricingCurrencyListUnitPrice Price null 1.2
PricingQuantity Decimal null 1.2
PricingUnit String null 1.2
ProviderName String notnull 1.2 1.4
PublisherName String notnull 1.2 1.4
RegionId String null 1.2
RegionName String null 1.2
ResourceId String null 1.2
ResourceName String null 1.2
ResourceType String null 1.2
ServiceCategory String notnull 1.2
ServiceName String notnull 1.2
ServiceProviderName String notnull 1.3
ServiceSubcategory String notnull 1.2
SkuId String null 1.2
SkuMeter String null 1.2
SkuPriceDetails JSON null 1.2
SkuPriceId String null 1.2
SubAccountId String null 1.2
SubAccountName String null 1.2
SubAccountType String null 1.2
Tags JSON null 1.2`

// focusSchemaColumn is a line of focusSchema.
type focusSchemaColumn struct {
	id, kind string
	nulls    bool
}

func focusSchemaOf(version documents.FocusVersion) []focusSchemaColumn {
	var columns []focusSchemaColumn
	for line := range strings.Lines(strings.TrimSpace(focusSchema)) {
		field := strings.Fields(line)
		if string(version) < field[3] || (len(field) > 4 && string(version) >= field[4]) {
			continue
		}
		columns = append(columns, focusSchemaColumn{id: field[0], kind: field[1], nulls: field[2] == "null"})
	}
	return columns
}

// focusRecord is one row, by Column ID.
type focusRecord map[string]string

func (r focusRecord) null(id string) bool { return r[id] == "" }

func (r focusRecord) number(id string) decimal.Decimal {
	d, err := decimal.NewFromString(r[id])
	if err != nil {
		return decimal.Zero
	}
	return d
}

func (r focusRecord) correction() bool { return r["ChargeClass"] == "Correction" }

// sold says that the charge is usage or a purchase and no correction: then it has a
// price, a quantity and a SKU.
func (r focusRecord) sold() bool {
	return !r.correction() && (r["ChargeCategory"] == "Usage" || r["ChargeCategory"] == "Purchase")
}

// product reports whether a unit price times the quantity is the cost, as far as it is
// bound to be, to the rounding of the cost to the currency's minor unit.
func (r focusRecord) product(price, cost string) bool {
	if r.null(price) || r.null("PricingQuantity") || r.correction() {
		return true
	}
	half := decimal.New(5, -money.Currency(r["BillingCurrency"]).Digits()-1)
	return r.number(price).Mul(r.number("PricingQuantity")).Sub(r.number(cost)).Abs().LessThanOrEqual(half)
}

func (r focusRecord) one(id string, allowed ...string) bool { return slices.Contains(allowed, r[id]) }

// both reports that two columns are null together.
func (r focusRecord) both(a, b string) bool { return r.null(a) == r.null(b) }

// focusRule is a normative requirement of the specification.
type focusRule struct {
	// section is the one that it is in, and says what it requires.
	section, says string
	// from is the first version that has it.
	from  documents.FocusVersion
	holds func(focusRecord) bool
}

// focusRules are those that look at one row.
var focusRules = []focusRule{
	{"Billing Account Type", "null exactly when BillingAccountId is", "1.2", func(r focusRecord) bool { return r.both("BillingAccountType", "BillingAccountId") }},
	{"Charge Category", "one of the allowed values", "1.2", func(r focusRecord) bool {
		return r.one("ChargeCategory", "Usage", "Purchase", "Tax", "Credit", "Adjustment")
	}},
	{"Charge Class", "null or Correction", "1.2", func(r focusRecord) bool { return r.one("ChargeClass", "", "Correction") }},
	{"Charge Class", "Correction exactly for what corrects a period that was invoiced", "1.2", func(r focusRecord) bool { return r.correction() == (r["x_LineKind"] == "correction") }},
	{"Charge Description", "should not be null", "1.2", func(r focusRecord) bool { return !r.null("ChargeDescription") }},
	{"Charge Frequency", "one of the allowed values", "1.2", func(r focusRecord) bool { return r.one("ChargeFrequency", "One-Time", "Recurring", "Usage-Based") }},
	{"Charge Frequency", "not Usage-Based for a purchase", "1.2", func(r focusRecord) bool {
		return r["ChargeCategory"] != "Purchase" || r["ChargeFrequency"] != "Usage-Based"
	}},
	{"Charge Period End", "the exclusive end bound", "1.2", func(r focusRecord) bool { return r["ChargePeriodStart"] < r["ChargePeriodEnd"] }},
	{"Billing Period End", "the exclusive end bound", "1.2", func(r focusRecord) bool { return r["BillingPeriodStart"] < r["BillingPeriodEnd"] }},
	{"Consumed Quantity", "null when ChargeCategory is not Usage", "1.2", func(r focusRecord) bool { return r.null("ConsumedQuantity") || r["ChargeCategory"] == "Usage" }},
	{"Consumed Quantity", "not null for usage that is no correction", "1.2", func(r focusRecord) bool {
		return r["ChargeCategory"] != "Usage" || r.correction() || !r.null("ConsumedQuantity")
	}},
	{"Consumed Unit", "null exactly when ConsumedQuantity is", "1.2", func(r focusRecord) bool { return r.both("ConsumedUnit", "ConsumedQuantity") }},
	{"Contracted Unit Price", "not null for what is sold", "1.2", func(r focusRecord) bool { return !r.sold() || !r.null("ContractedUnitPrice") }},
	{"Contracted Cost", "ContractedUnitPrice times PricingQuantity", "1.2", func(r focusRecord) bool { return r.product("ContractedUnitPrice", "ContractedCost") }},
	{"Contracted Cost", "BilledCost when ContractedUnitPrice is null", "1.2", func(r focusRecord) bool {
		return !r.null("ContractedUnitPrice") || r.number("ContractedCost").Equal(r.number("BilledCost"))
	}},
	{"Discount Handling", "what is awarded after the fact is a Credit", "1.2", func(r focusRecord) bool {
		return !r.one("x_LineKind", "discount", "credit") || r["ChargeCategory"] == "Credit"
	}},
	{"Effective Cost", "BilledCost of what is neither Usage nor Purchase", "1.2", func(r focusRecord) bool {
		return r.one("ChargeCategory", "Usage", "Purchase") || r.number("EffectiveCost").Equal(r.number("BilledCost"))
	}},
	{"Effective Cost", "BilledCost where nothing is amortized: no commitment", "1.2", func(r focusRecord) bool {
		return !r.null("CommitmentDiscountId") || r.number("EffectiveCost").Equal(r.number("BilledCost"))
	}},
	{"Host Provider Name", "ServiceProviderName where no other host is shown", "1.3", func(r focusRecord) bool { return r["HostProviderName"] == r["ServiceProviderName"] }},
	{"Invoice Detail ID", "null exactly when InvoiceId is", "1.4", func(r focusRecord) bool { return r.both("InvoiceDetailId", "InvoiceId") }},
	{"List Unit Price", "not null for what is sold", "1.2", func(r focusRecord) bool { return !r.sold() || !r.null("ListUnitPrice") }},
	{"List Cost", "ListUnitPrice times PricingQuantity", "1.2", func(r focusRecord) bool { return r.product("ListUnitPrice", "ListCost") }},
	{"List Cost", "BilledCost when ListUnitPrice is null", "1.2", func(r focusRecord) bool {
		return !r.null("ListUnitPrice") || r.number("ListCost").Equal(r.number("BilledCost"))
	}},
	{"Pricing Category", "null or one of the allowed values", "1.2", func(r focusRecord) bool {
		return r.one("PricingCategory", "", "Standard", "Dynamic", "Committed", "Other")
	}},
	{"Pricing Category", "not null for what is sold", "1.2", func(r focusRecord) bool { return !r.sold() || !r.null("PricingCategory") }},
	{"Pricing Currency Contracted Unit Price", "ContractedUnitPrice where the currency is the same", "1.2", func(r focusRecord) bool {
		return r["PricingCurrency"] != r["BillingCurrency"] || r["PricingCurrencyContractedUnitPrice"] == r["ContractedUnitPrice"]
	}},
	{"Pricing Currency Effective Cost", "EffectiveCost where the currency is the same", "1.2", func(r focusRecord) bool {
		return r["PricingCurrency"] != r["BillingCurrency"] || r["PricingCurrencyEffectiveCost"] == r["EffectiveCost"]
	}},
	{"Pricing Currency List Unit Price", "ListUnitPrice where the currency is the same", "1.2", func(r focusRecord) bool {
		return r["PricingCurrency"] != r["BillingCurrency"] || r["PricingCurrencyListUnitPrice"] == r["ListUnitPrice"]
	}},
	{"Pricing Quantity", "not null for what is sold", "1.2", func(r focusRecord) bool { return !r.sold() || !r.null("PricingQuantity") }},
	{"Pricing Unit", "null exactly when PricingQuantity is", "1.2", func(r focusRecord) bool { return r.both("PricingUnit", "PricingQuantity") }},
	{"Service Subcategory", "a child of its category", "1.2", func(r focusRecord) bool {
		return slices.Contains(map[string][]string{
			"Other":           {"Other (Other)"},
			"Developer Tools": {"Developer Platforms", "Quality Assurance", "Other (Developer Tools)"},
		}[r["ServiceCategory"]], r["ServiceSubcategory"])
	}},
	{"SKU ID", "not null for what is sold", "1.2", func(r focusRecord) bool { return !r.sold() || !r.null("SkuId") }},
	{"SKU Meter", "null exactly when SkuId is", "1.2", func(r focusRecord) bool { return r.both("SkuMeter", "SkuId") }},
	{"SKU Price Details", "null when SkuPriceId is", "1.2", func(r focusRecord) bool { return !r.null("SkuPriceId") || r.null("SkuPriceDetails") }},
	{"SKU Price ID", "not null for what is sold", "1.2", func(r focusRecord) bool { return !r.sold() || !r.null("SkuPriceId") }},
	{"Sub Account Name", "null exactly when SubAccountId is", "1.2", func(r focusRecord) bool { return r.both("SubAccountName", "SubAccountId") }},
	{"Sub Account Type", "null exactly when SubAccountId is", "1.2", func(r focusRecord) bool { return r.both("SubAccountType", "SubAccountId") }},
}

// number is what "Numeric Format" allows, but for the exponent, which is never written.
var focusNumeral = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// focusTypes checks a value by its data type ("Numeric Format", "Date/Time Format",
// "Currency Format", "String Handling", "Null Handling").
func focusTyped(kind, value string) bool {
	switch kind {
	case "Decimal":
		return focusNumeral.MatchString(value)
	case "Price":
		return focusNumeral.MatchString(value) && value[0] != '-'
	case "DateTime":
		at, err := time.Parse("2006-01-02T15:04:05Z", value)
		return err == nil && at.Format(time.RFC3339) == value
	case "Currency":
		return money.Currency(value).Known()
	case "JSON":
		return strings.HasPrefix(value, "{") && strings.HasSuffix(value, "}")
	default:
		return strings.TrimSpace(value) != "" && !slices.Contains([]string{"NULL", "null", "N/A", "Not Applicable"}, value)
	}
}

// focusBroken returns every rule that a row breaks, as "section: what it says".
func focusBroken(version documents.FocusVersion, r focusRecord) []string {
	var broken []string
	for _, column := range focusSchemaOf(version) {
		value, there := r[column.id]
		switch {
		case !there:
			broken = append(broken, column.id+": present")
		case value == "" && !column.nulls:
			broken = append(broken, column.id+": not null")
		case value != "" && !focusTyped(column.kind, value):
			broken = append(broken, column.id+": of type "+column.kind)
		}
	}
	for _, rule := range focusRules {
		if version >= rule.from && !rule.holds(r) {
			broken = append(broken, rule.section+": "+rule.says)
		}
	}
	return broken
}

// requireFocusDataset checks the rules over many rows.
func requireFocusDataset(t *testing.T, version documents.FocusVersion, records []focusRecord) {
	t.Helper()
	details, parents, meters := map[string]bool{}, map[string]string{}, map[string]string{}
	subcategories := map[string]string{}
	only := func(seen map[string]string, key, value, rule string) {
		t.Helper()
		if known, there := seen[key]; there && key != "" {
			require.Equal(t, known, value, rule)
		}
		seen[key] = value
	}
	for i, r := range records {
		require.Empty(t, focusBroken(version, r), "row %d: %v", i+1, r)
		if id := r["InvoiceDetailId"]; id != "" {
			require.False(t, details[id], "Invoice Detail ID: unique within an invoice: %s", id)
			details[id] = true
		}
		only(parents, r["SkuPriceId"], r["SkuId"], "SKU Price ID: one and only one parent SkuId")
		only(meters, r["SkuId"], r["SkuMeter"], "SKU Meter: consistent for a SkuId")
		only(subcategories, r["ServiceName"], r["ServiceCategory"]+"/"+r["ServiceSubcategory"], "Service Name: one category")
	}
}
