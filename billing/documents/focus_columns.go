package documents

// focusColumn is a column of the dataset.
type focusColumn struct {
	id string
	// from is the first version that has the column, and until the first one that
	// hasn't it any more; empty for Focus12, and for none.
	from, until FocusVersion
	// value returns a charge's value; nil for what Tollgate doesn't have: regions,
	// resources, commitments, capacity, sub accounts and split costs.
	value func(*focusCharge) string
}

// focusColumnsOf returns the columns of a version; nil where it isn't known.
func focusColumnsOf(version FocusVersion) []focusColumn {
	switch version {
	case Focus12, Focus13, Focus14:
	default:
		return nil
	}
	var columns []focusColumn
	for _, groups := range [][]focusColumn{focusColumnsAtoC, focusColumnsCtoP, focusColumnsPtoT, focusCustomColumns} {
		for _, column := range groups {
			// The versions' names compare as texts.
			if version >= column.from && (column.until == "" || version < column.until) {
				columns = append(columns, column)
			}
		}
	}
	return columns
}

// The columns, in the order of the specification's section "Columns": by display name.
var focusColumnsAtoC = []focusColumn{
	{id: "AllocatedMethodDetails", from: Focus13},
	{id: "AllocatedMethodId", from: Focus13},
	{id: "AllocatedResourceId", from: Focus13},
	{id: "AllocatedResourceName", from: Focus13},
	{id: "AllocatedTags", from: Focus13},
	{id: "AvailabilityZone"},
	{id: "BilledCost", value: func(c *focusCharge) string { return focusAmount(c.Billed, c.Currency) }},
	{id: "BillingAccountId", value: func(c *focusCharge) string { return c.Organization.String() }},
	{id: "BillingAccountName", value: func(c *focusCharge) string { return c.OrganizationName }},
	{id: "BillingAccountType", value: func(*focusCharge) string { return "Organization" }},
	{id: "BillingCurrency", value: func(c *focusCharge) string { return string(c.Currency) }},
	{id: "BillingPeriodEnd", value: func(c *focusCharge) string { return focusTime(c.BillingEnd) }},
	{id: "BillingPeriodStart", value: func(c *focusCharge) string { return focusTime(c.BillingStart) }},
	{id: "CapacityReservationId"},
	{id: "CapacityReservationStatus"},
	{id: "ChargeCategory", value: func(c *focusCharge) string { return c.category }},
	{id: "ChargeClass", value: func(c *focusCharge) string { return c.class }},
	{id: "ChargeDescription", value: func(c *focusCharge) string { return c.Description }},
	{id: "ChargeFrequency", value: func(c *focusCharge) string { return c.frequency }},
	{id: "ChargePeriodEnd", value: func(c *focusCharge) string { return focusTime(c.ChargeEnd) }},
	{id: "ChargePeriodStart", value: func(c *focusCharge) string { return focusTime(c.ChargeStart) }},
	{id: "CommitmentDiscountCategory"},
	{id: "CommitmentDiscountId"},
	{id: "CommitmentDiscountName"},
	{id: "CommitmentDiscountQuantity"},
	{id: "CommitmentDiscountStatus"},
	{id: "CommitmentDiscountType"},
	{id: "CommitmentDiscountUnit"},
	{id: "CommitmentProgramEligibilityDetails", from: Focus14},
}

var focusColumnsCtoP = []focusColumn{
	{id: "ConsumedQuantity", value: func(c *focusCharge) string { return focusNumber(c.consumed) }},
	{id: "ConsumedUnit", value: func(c *focusCharge) string {
		if !c.consumed.Valid {
			return ""
		}
		return c.Meter.Unit
	}},
	{id: "ContractApplied", from: Focus13},
	{id: "ContractedCost", value: func(c *focusCharge) string { return focusAmount(c.Billed, c.Currency) }},
	{id: "ContractedUnitPrice", value: func(c *focusCharge) string { return focusNumber(c.contractedUnitPrice) }},
	{id: "EffectiveCost", value: func(c *focusCharge) string { return focusAmount(c.Billed, c.Currency) }},
	// Tollgate knows no other host than the provider: then it is the provider ("Host
	// Provider Name").
	{id: "HostProviderName", from: Focus13, value: func(c *focusCharge) string { return c.Provider }},
	{id: "InvoiceDetailId", from: Focus14, value: (*focusCharge).invoiceDetail},
	{id: "InvoiceId", value: func(c *focusCharge) string { return c.Statement }},
	{id: "InvoiceIssuerName", value: func(c *focusCharge) string { return c.Issuer }},
	{id: "ListCost", value: func(c *focusCharge) string { return focusAmount(c.list, c.Currency) }},
	{id: "ListUnitPrice", value: func(c *focusCharge) string { return focusNumber(c.listUnitPrice) }},
}

var focusColumnsPtoT = []focusColumn{
	{id: "PricingCategory", value: func(c *focusCharge) string { return c.onlyPriced("Standard") }},
	{id: "PricingCurrency", value: func(c *focusCharge) string { return string(c.Currency) }},
	{id: "PricingCurrencyContractedUnitPrice", value: func(c *focusCharge) string { return focusNumber(c.contractedUnitPrice) }},
	{id: "PricingCurrencyEffectiveCost", value: func(c *focusCharge) string { return focusAmount(c.Billed, c.Currency) }},
	{id: "PricingCurrencyListUnitPrice", value: func(c *focusCharge) string { return focusNumber(c.listUnitPrice) }},
	{id: "PricingQuantity", value: func(c *focusCharge) string { return focusNumber(c.quantity) }},
	{id: "PricingUnit", value: func(c *focusCharge) string { return c.pricingUnit }},
	{id: "ProviderName", until: Focus14, value: func(c *focusCharge) string { return c.Provider }},
	{id: "PublisherName", until: Focus14, value: func(c *focusCharge) string { return c.Publisher }},
	{id: "RegionId"},
	{id: "RegionName"},
	{id: "ResourceId"},
	{id: "ResourceName"},
	{id: "ResourceType"},
	{id: "ServiceCategory", value: func(c *focusCharge) string { return c.serviceCategory }},
	{id: "ServiceName", value: func(c *focusCharge) string { return c.service }},
	{id: "ServiceProviderName", from: Focus13, value: func(c *focusCharge) string { return c.Provider }},
	{id: "ServiceSubcategory", value: func(c *focusCharge) string { return c.serviceSubcategory }},
	{id: "SkuId", value: (*focusCharge).sku},
	{id: "SkuMeter", value: (*focusCharge).skuMeter},
	{id: "SkuPriceDetails"},
	{id: "SkuPriceId", value: (*focusCharge).skuPrice},
	{id: "SubAccountId"},
	{id: "SubAccountName"},
	{id: "SubAccountType"},
	{id: "Tags"},
}

// The columns that FOCUS doesn't have, after all that it has ("Column Handling").
var focusCustomColumns = []focusColumn{
	{id: "x_LineKind", value: func(c *focusCharge) string { return string(c.Kind) }},
	{id: "x_PlanKey", value: func(c *focusCharge) string { return c.Plan.Key }},
	{id: "x_PlanName", value: func(c *focusCharge) string { return c.Plan.Name }},
	{id: "x_PlanVersion", value: func(c *focusCharge) string { return focusCount(c.Plan.Version) }},
}
