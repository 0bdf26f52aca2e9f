package plans_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

var update = flag.Bool("update", false, "write the golden files anew")

// rateMeters are the meters of golden cases: a sum, a peak and a snapshot.
var rateMeters = []plans.Meter{
	{Key: "m", Name: "Calls", Aggregation: plans.Sum, Unit: "call"},
	{Key: "p", Name: "Seats", Aggregation: plans.Max, Unit: "seat"},
	{Key: "s", Name: "Storage", Aggregation: plans.Last, Unit: "byte"},
}

// TestRateGolden prices each quantity of a case. A file is the case, a line of three
// dashes, and what is expected; -update writes the latter.
func TestRateGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/rate/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			input, want, found := bytes.Cut(content, []byte("---\n"))
			require.True(t, found)
			got := rateCase(t, input)
			if *update {
				require.NoError(t, os.WriteFile(file, append(append(input, "---\n"...), got...), 0o600))
				return
			}
			require.Equal(t, string(want), got)
		})
	}
}

func rateCase(t *testing.T, input []byte) string {
	t.Helper()
	var given struct {
		Price      plans.Price
		Share      plans.Share
		Quantities []int64
	}
	require.NoError(t, yaml.UnmarshalWithOptions(input, &given, yaml.DisallowUnknownField()))
	catalog := plans.Catalog{Meters: rateMeters}
	require.NoError(t, catalog.ValidatePlan(plans.Plan{
		Key: "x", Version: 1, PriceBooks: []plans.PriceBook{{Currency: "USD", Prices: []plans.Price{given.Price}}},
	}))
	meter, _, _ := catalog.Meter(given.Price.Meter)
	var out strings.Builder
	for _, quantity := range given.Quantities {
		charge := given.Price.Rate(decimal.NewFromInt(quantity), given.Share, meter.Aggregation)
		rounded, rest := charge.Amount.Round("USD", money.HalfUp)
		fmt.Fprintf(&out, "%s\n", strings.Join(charge.Explain(meter.Unit), "\n  "))
		fmt.Fprintf(&out, "  = %s, rounded %s, rest %s\n", charge.Amount, money.Format(rounded, "USD"), rest)
	}
	return out.String()
}

func rat(f money.Fraction) *big.Rat {
	return f.Rat()
}

func drawPrice(t *rapid.T, model plans.PriceModel) plans.Price {
	amount := func(name string) decimal.Decimal {
		return decimal.New(rapid.Int64Range(0, 1_000_000).Draw(t, name), -int32(rapid.IntRange(0, 12).Draw(t, name+" decimals")))
	}
	p := plans.Price{Meter: "m", Model: model, Included: rapid.Int64Range(0, 50).Draw(t, "included")}
	switch model {
	case plans.Flat:
		p.FlatFee = amount("flat fee")
	case plans.PerUnit:
		p.UnitPrice, p.Per = amount("price"), rapid.Int64Range(1, 1<<31).Draw(t, "per")
	case plans.Package:
		p.PackagePrice, p.PackageSize = amount("price"), rapid.Int64Range(1, 30).Draw(t, "size")
	default:
		end := int64(0)
		for range rapid.IntRange(0, 4).Draw(t, "tiers") {
			end += rapid.Int64Range(1, 40).Draw(t, "tier")
			p.Tiers = append(p.Tiers, plans.Tier{UpTo: end, UnitPrice: amount("price")})
		}
		p.Tiers = append(p.Tiers, plans.Tier{UnitPrice: amount("price")})
	}
	return p
}

var rateWhole = func(p plans.Price, quantity int64) *big.Rat {
	return rat(p.Rate(decimal.NewFromInt(quantity), plans.Share{}, plans.Sum).Amount)
}

// More is never cheaper, except by volume, whose tiers exist to make it so.
func TestRateIsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t, rapid.SampledFrom([]plans.PriceModel{plans.Flat, plans.PerUnit, plans.Graduated, plans.Package}).Draw(t, "model"))
		less := rapid.Int64Range(0, 300).Draw(t, "less")
		more := less + rapid.Int64Range(0, 300).Draw(t, "and")
		require.GreaterOrEqual(t, rateWhole(p, more).Cmp(rateWhole(p, less)), 0)
	})
}

// A price per unit without included units adds up: the parts of a quantity cost as
// much as the whole.
func TestPerUnitIsAdditive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t, plans.PerUnit)
		p.Included = 0
		a, b := rapid.Int64Range(0, plans.MaxQuantity).Draw(t, "a"), rapid.Int64Range(0, plans.MaxQuantity).Draw(t, "b")
		require.Zero(t, rateWhole(p, a+b).Cmp(new(big.Rat).Add(rateWhole(p, a), rateWhole(p, b))))
	})
}

// Graduated tiers are continuous: one more unit costs the price of the tier that it
// falls in, also across an end.
func TestGraduatedTiersAreContinuous(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t, plans.Graduated)
		quantity := rapid.Int64Range(1, 300).Draw(t, "quantity")
		step := new(big.Rat).Sub(rateWhole(p, p.Included+quantity), rateWhole(p, p.Included+quantity-1))
		for _, tier := range p.Tiers {
			if tier.UpTo == 0 || quantity <= tier.UpTo {
				require.Zero(t, step.Cmp(tier.UnitPrice.Rat()))
				return
			}
		}
	})
}

// The parts add up to the amount, and cover the billed quantity without a gap.
func TestPartsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t, rapid.SampledFrom([]plans.PriceModel{plans.Flat, plans.PerUnit, plans.Graduated, plans.Volume, plans.Package}).Draw(t, "model"))
		charge := p.Rate(decimal.NewFromInt(rapid.Int64Range(0, 400).Draw(t, "quantity")), plans.Share{}, plans.Sum)
		require.True(t, charge.Included.Add(charge.Billed).Equal(charge.Quantity))
		sum, reached := new(big.Rat), decimal.Zero
		for _, part := range charge.Parts {
			each := new(big.Rat).Quo(new(big.Rat).Mul(part.Quantity.Rat(), part.UnitPrice.Rat()), new(big.Rat).SetInt64(part.Per))
			sum.Add(sum, each.Add(each, part.FlatFee.Rat()))
			if p.Model != plans.Flat {
				require.True(t, part.From.Equal(reached.Add(decimal.NewFromInt(1))))
				reached = part.To
			}
		}
		require.Zero(t, sum.Cmp(rat(charge.Amount)))
		if p.Model != plans.Flat {
			require.True(t, reached.Equal(charge.Billed))
		}
	})
}

// The parts of a quantity cost as much as the whole, wherever it is cut, and what is
// included is taken from its front: P(b) − P(a), and a volume's fee once.
func TestChargesOfPartsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t, rapid.SampledFrom([]plans.PriceModel{plans.Flat, plans.PerUnit, plans.Graduated, plans.Volume, plans.Package}).Draw(t, "model"))
		for i := range p.Tiers {
			p.Tiers[i].FlatFee = decimal.New(rapid.Int64Range(0, 999).Draw(t, "fee"), -2)
		}
		quantity := func(name string) money.Fraction {
			return money.Quotient(decimal.NewFromInt(rapid.Int64Range(0, 900).Draw(t, name)), decimal.NewFromInt(rapid.SampledFrom([]int64{1, 7}).Draw(t, "of")))
		}
		included := quantity("included")
		reaches := []money.Fraction{{}, quantity("a"), quantity("b"), quantity("c")}
		slices.SortFunc(reaches, money.Fraction.Cmp)
		total := reaches[3]
		whole := p.Charge(plans.Reach{To: total, Total: total, Included: included, Last: true})
		var sum, billed money.Fraction
		for i := range 3 {
			c := p.Charge(plans.Reach{From: reaches[i], To: reaches[i+1], Total: total, Included: included, Last: i == 2})
			sum = sum.Add(c.Amount)
			billed = billed.Add(money.Whole(c.Billed))
			require.GreaterOrEqual(t, c.Amount.Sign(), 0)
		}
		require.True(t, sum.Equal(whole.Amount), "%s, not %s", sum, whole.Amount)
		require.True(t, billed.Sub(money.Whole(whole.Billed)).Decimal(4).IsZero())
	})
}

// Terms are compared as values: 1.0 is 1.00, what is left out is its default, and what
// another term says, as a minimum, is nothing of the units.
func TestSameUnits(t *testing.T) {
	t.Parallel()
	read := func(text string) plans.Price {
		var p plans.Price
		require.NoError(t, yaml.Unmarshal([]byte(text), &p), text)
		return p
	}
	for _, c := range []struct {
		a, b string
		of   plans.Aggregation
		want bool
	}{
		{"{ model: per_unit, unit_price: 1 }", "{ model: per_unit, unit_price: '1.000', per: 1 }", plans.Sum, true},
		{"{ model: per_unit, unit_price: 1 }", "{ model: per_unit, unit_price: 1, minimum: 5, discount_percent: 3, prorate: day }", plans.Sum, true},
		{"{ model: per_unit, unit_price: 1 }", "{ model: per_unit, unit_price: 1, included: 1 }", plans.Sum, false},
		{"{ model: per_unit, unit_price: 1 }", "{ model: per_unit, unit_price: 1, per: 2 }", plans.Sum, false},
		{"{ model: per_unit, unit_price: 1 }", "{ model: volume, tiers: [{ unit_price: 1 }] }", plans.Sum, false},
		{"{ model: per_unit, unit_price: 1 }", "{ model: per_unit, unit_price: 1, basis: average }", plans.Last, true},
		{"{ model: per_unit, unit_price: 1 }", "{ model: per_unit, unit_price: 1, basis: level }", plans.Last, false},
		{"{ model: flat, flat_fee: '2.50' }", "{ model: flat, flat_fee: 2.5 }", plans.Max, true},
		{"{ model: flat, flat_fee: 2 }", "{ model: flat, flat_fee: 3 }", plans.Max, false},
		{"{ model: package, package_size: 3, package_price: 1 }", "{ model: package, package_size: 3, package_price: 1.0 }", plans.Max, true},
		{"{ model: package, package_size: 3, package_price: 1 }", "{ model: package, package_size: 4, package_price: 1 }", plans.Max, false},
		{"{ model: graduated, tiers: [{ up_to: 5, unit_price: 1 }, { unit_price: 2 }] }", "{ model: graduated, tiers: [{ up_to: 5, unit_price: 1.0, flat_fee: 0 }, { unit_price: 2 }] }", plans.Sum, true},
		{"{ model: graduated, tiers: [{ up_to: 5, unit_price: 1 }, { unit_price: 2 }] }", "{ model: graduated, tiers: [{ up_to: 6, unit_price: 1 }, { unit_price: 2 }] }", plans.Sum, false},
		{"{ model: graduated, tiers: [{ unit_price: 1 }] }", "{ model: graduated, tiers: [{ unit_price: 1, flat_fee: 1 }] }", plans.Sum, false},
	} {
		require.Equal(t, c.want, read(c.a).SameUnits(read(c.b), c.of), "%s and %s", c.a, c.b)
		require.Equal(t, c.want, read(c.b).SameUnits(read(c.a), c.of), "%s and %s", c.b, c.a)
	}
}

func TestPriceBookOfCurrency(t *testing.T) {
	t.Parallel()
	free := plans.Plan{Key: "free"}
	book, ok := free.PriceBook("JPY")
	require.True(t, ok)
	require.Equal(t, plans.PriceBook{Currency: "JPY"}, book)
	pro := plans.Plan{Key: "pro", PriceBooks: []plans.PriceBook{{Currency: "USD"}}}
	_, ok = pro.PriceBook("USD")
	require.True(t, ok)
	_, ok = pro.PriceBook("JPY")
	require.False(t, ok)
}

func TestCatalogRefusesPrices(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"currency: usd":                          `price_books[0].currency: "usd" must be an ISO 4217 code`,
		"rounding: up":                           `rounding: "up" must be half_up or half_even`,
		"base_fee: { amount: -1 }":               "base_fee.amount: -1 must be 0 to 1000000000000000",
		"base_fee: { amount: 1, prorate: hour }": `base_fee.prorate: "hour" must be day, second or none`,
		"minimum: 0.0000000000001":               "minimum: 0.0000000000001 must have at most 12 decimals",
		"discount_percent: 101":                  "discount_percent: 101 must be 0 to 100",
		"prices: [{ meter: x, model: flat }]":    `prices[0].meter: "x" is not a meter`,
		"prices: [{ meter: m, model: flat }, { meter: m, model: flat }]":                                                                 `prices[1].meter: "m" is there twice`,
		"prices: [{ meter: m, model: stairs }]":                                                                                          `model: "stairs" must be flat, per_unit, graduated, volume or package`,
		"prices: [{ meter: m, model: flat, unit_price: 1 }]":                                                                             "unit_price: must be left out where the model is flat",
		"prices: [{ meter: m, model: flat, basis: level }]":                                                                              `basis: "level" must be average or level, for a meter that is a snapshot`,
		"prices: [{ meter: m, model: package }]":                                                                                         "package_size: 0 must be 1 to",
		"prices: [{ meter: m, model: volume }]":                                                                                          "tiers: must hold 1 to 100 tiers, has 0",
		"prices: [{ meter: m, model: volume, tiers: [{ up_to: 5, unit_price: 1 }] }]":                                                    "tiers[0].up_to: 5 must be left out",
		"prices: [{ meter: m, model: volume, tiers: [{ unit_price: 1 }, { unit_price: 1 }] }]":                                           "tiers[0].up_to: 0 must be more than 0",
		"prices: [{ meter: m, model: per_unit, tiers: [{ unit_price: 1 }] }]":                                                            "tiers: must be left out where the model is per_unit",
		"prices: [{ meter: m, model: per_unit, per: -1, included: -1, prorate: x, discount_percent: -1 }]":                               "per: -1 must be 1 to",
		"prices: [{ meter: m, model: graduated, tiers: [{ up_to: 5, unit_price: 1 }, { up_to: 5, unit_price: 2 }, { unit_price: 3 }] }]": "tiers[1].up_to: 5 must be more than 5",
	} {
		var book plans.PriceBook
		if !strings.HasPrefix(text, "currency") {
			text = "currency: USD\n" + text
		}
		require.NoError(t, yaml.Unmarshal([]byte(text), &book), text)
		catalog := plans.Catalog{Meters: rateMeters}
		err := catalog.ValidatePlan(plans.Plan{Key: "x", Version: 1, PriceBooks: []plans.PriceBook{book}})
		require.ErrorIs(t, err, plans.ErrInvalidCatalog)
		require.ErrorContains(t, err, says)
	}
}

func ExampleCharge_Explain() {
	price := plans.Price{Meter: "calls", Model: plans.Graduated, Included: 1000, Tiers: []plans.Tier{
		{UpTo: 10_000, UnitPrice: decimal.RequireFromString("0.002")},
		{UnitPrice: decimal.RequireFromString("0.0015")},
	}}
	charge := price.Rate(decimal.NewFromInt(15_500), plans.Share{}, plans.Sum)
	for _, line := range charge.Explain("calls") {
		fmt.Println(line)
	}
	fmt.Println("=", charge.Amount)
	// Output:
	// 15,500 used − 1,000 included = 14,500 calls
	// 1–10,000: 10,000 × 0.002 = 20
	// 10,001–14,500: 4,500 × 0.0015 = 6.75
	// = 26.75
}
