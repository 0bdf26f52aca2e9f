package pgstore_test

import (
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// What is new takes currencies in force alone, and says which rule another one breaks.
func TestNewThingsTakeCurrenciesInForce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, code := range []string{"SLE", "VES", "VED", "MRU", "XCG", "ZWG", "UYW", "RSD"} {
		o, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "In force", Plan: "free", Currency: code})
		require.NoError(t, err)
		require.Equal(t, code, o.Currency)
	}
	o := f.organization("Acme", "free")
	for code, rule := range map[string]string{
		"HRK": "that ISO 4217 has not withdrawn", "BGN": "that ISO 4217 has not withdrawn", "DEM": "that ISO 4217 has not withdrawn",
		"XXX": "that has a minor unit", "XAU": "that has a minor unit", "XDR": "that has a minor unit", "eur": "that has a minor unit",
	} {
		_, made := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Refused", Plan: "free", Currency: code})
		_, changed := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Currency: &code})
		_, granted := f.GrantCredit(t.Context(), billing.CreditGrant{
			Organization: o.ID, Currency: money.Currency(code), Amount: decimal.NewFromInt(5), EffectiveAt: time.Now(), Note: "x",
		})
		for _, err := range []error{made, changed, granted} {
			var field *fault.FieldError
			require.ErrorAs(t, err, &field, code)
			require.Equal(t, "currency", field.Field)
			require.Contains(t, field.Rule, rule)
			require.Contains(t, field.Rule, `"`+code+`"`)
		}
		plan := team(1)
		plan.PriceBooks = []plans.PriceBook{{Currency: money.Currency(code)}}
		_, err := f.PublishPlan(t.Context(), plan)
		require.ErrorIs(t, err, plans.ErrInvalidCatalog)
		require.ErrorContains(t, err, "price_books[0].currency")
		require.ErrorContains(t, err, rule)
		catalog := plans.Default()
		catalog.Plans = append(catalog.Plans, plan)
		require.ErrorIs(t, f.PublishCatalog(t.Context(), catalog), plans.ErrInvalidCatalog)
	}
	require.EqualValues(t, 9, f.count(`SELECT count(*) FROM organizations`))
	require.Zero(t, f.count(`SELECT count(*) FROM plans WHERE key = 'team'`))
}

// A version that was published before its currency was withdrawn is published on, since
// every process publishes its file at its start.
func TestPublishedPricesKeepAWithdrawnCurrency(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	plan := team(1)
	plan.PriceBooks = []plans.PriceBook{{Currency: "EUR"}}
	_, err := f.PublishPlan(t.Context(), plan)
	require.NoError(t, err)
	f.exec(`UPDATE plans SET price_books = replace(price_books::text, 'EUR', 'BGN')::jsonb WHERE key = 'team'`)
	plan.PriceBooks[0].Currency = "BGN"
	catalog := plans.Default()
	catalog.Plans = append(catalog.Plans, plan)
	require.NoError(t, f.PublishCatalog(t.Context(), catalog))
	published, err := f.Catalog(t.Context())
	require.NoError(t, err)
	kept, _ := published.Plan("team")
	require.EqualValues(t, "BGN", kept.PriceBooks[0].Currency)
}

// What was issued or granted fixes the currency.
func TestCurrencyIsFixedByWhatWasIssuedOrGranted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	october := calendar.PeriodOf(today.Start())
	granted, issued := f.organization("Granted", "pro"), f.organizationSince("Issued", "pro", october.Start())
	euro, name := "EUR", "Renamed"
	change := func(o accounts.Organization, c accounts.OrganizationChange) error {
		_, err := f.UpdateOrganization(t.Context(), o.ID, c)
		return err
	}
	free := f.organization("Free", "free")
	require.NoError(t, change(free, accounts.OrganizationChange{Currency: &euro}), "nothing was issued yet")

	f.grant(billing.CreditGrant{Organization: granted.ID, Currency: "USD", Amount: decimal.NewFromInt(5), EffectiveAt: time.Now(), Note: "x"})
	f.closePeriod(october)
	for _, o := range []accounts.Organization{granted, issued} {
		err := change(o, accounts.OrganizationChange{Currency: &euro, Name: &name})
		require.ErrorIs(t, err, accounts.ErrCurrencyFixed, o.Name)
		require.ErrorContains(t, err, "it is USD")
		same := "USD"
		require.NoError(t, change(o, accounts.OrganizationChange{Currency: &same, Name: &name}), "the one that it has is no change")
		kept, err := f.Organization(t.Context(), o.ID)
		require.NoError(t, err)
		require.Equal(t, "USD", kept.Currency)
	}
}
