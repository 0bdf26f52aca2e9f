package web

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// draft is prices that somebody edits: text as it was typed, under the names that the API has for its fields.
type draft struct {
	Plans []draftPlan
	// wrong says of fields which rule they break.
	wrong map[string]string
}

// draftPlan is a plan whose prices are edited. Version is the one that the edit began with.
type draftPlan struct {
	Key     string
	Version int
	Books   []draftBook
}

type draftBook struct {
	Currency string
	Fields   map[string]string
	Prices   []draftPrice
}

// draftPrice keeps what was typed for other models, too: who goes back to one finds it again.
type draftPrice struct {
	Meter  string
	Fields map[string]string
	Tiers  []map[string]string
}

var (
	bookFields  = []string{"base_fee.amount", "base_fee.prorate", "minimum", "discount_percent", "rounding"}
	priceFields = []string{
		"model", "unit_price", "per", "flat_fee", "package_size", "package_price", "included", "minimum", "discount_percent", "prorate", "basis",
	}
	tierFields = []string{"up_to", "unit_price", "flat_fee"}
	// onlyOf are fields that some models have.
	onlyOf = map[string][]plans.PriceModel{
		"unit_price": {plans.PerUnit}, "per": {plans.PerUnit, plans.Graduated, plans.Volume}, "flat_fee": {plans.Flat},
		"package_size": {plans.Package}, "package_price": {plans.Package},
	}
	priceModels = []string{string(plans.Flat), string(plans.PerUnit), string(plans.Graduated), string(plans.Volume), string(plans.Package)}
	prorations  = []string{"", string(plans.ProrateNone), string(plans.ProrateDay), string(plans.ProrateSecond)}
	roundings   = []string{"", string(money.HalfUp), string(money.HalfEven)}
	bases       = []string{"", string(plans.Average), string(plans.Level)}
)

func (p draftPrice) model() plans.PriceModel { return plans.PriceModel(p.Fields["model"]) }

func (p draftPrice) tiered() bool { return p.model() == plans.Graduated || p.model() == plans.Volume }

// has reports whether a price of this model has a field.
func (p draftPrice) has(field string) bool {
	of, some := onlyOf[field]
	return !some || slices.Contains(of, p.model())
}

// newDraft begins with the prices in force.
func newDraft(in []gen.Plan) draft {
	d := draft{wrong: map[string]string{}}
	for _, p := range in {
		one := draftPlan{Key: p.Key, Version: p.Version}
		for _, b := range p.PriceBooks {
			book := draftBook{Currency: b.Currency, Fields: map[string]string{
				"minimum": b.Minimum, "discount_percent": b.DiscountPercent, "rounding": string(b.Rounding),
			}}
			if b.BaseFee != nil {
				book.Fields["base_fee.amount"], book.Fields["base_fee.prorate"] = b.BaseFee.Amount, string(b.BaseFee.Prorate)
			}
			for _, price := range b.Prices {
				book.Prices = append(book.Prices, newDraftPrice(price))
			}
			one.Books = append(one.Books, book)
		}
		d.Plans = append(d.Plans, one)
	}
	return d
}

func newDraftPrice(p gen.Price) draftPrice {
	out := draftPrice{Meter: p.Meter, Fields: map[string]string{
		"model": string(p.Model), "unit_price": p.UnitPrice, "per": whole(p.Per), "flat_fee": p.FlatFee, "package_size": whole(p.PackageSize),
		"package_price": p.PackagePrice, "included": whole(p.Included), "minimum": p.Minimum, "discount_percent": p.DiscountPercent,
		"prorate": string(p.Prorate), "basis": string(p.Basis),
	}}
	for _, t := range p.Tiers {
		out.Tiers = append(out.Tiers, map[string]string{"up_to": whole(t.UpTo), "unit_price": t.UnitPrice, "flat_fee": t.FlatFee})
	}
	return out
}

// whole writes a number; zero is left out.
func whole(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// The names of the fields, as the API has them.
func planAt(i int) string               { return fmt.Sprintf("plans[%d]", i) }
func bookAt(plan string, i int) string  { return fmt.Sprintf("%s.price_books[%d]", plan, i) }
func priceAt(book string, i int) string { return fmt.Sprintf("%s.prices[%d]", book, i) }
func tierAt(price string, i int) string { return fmt.Sprintf("%s.tiers[%d]", price, i) }

// readDraft reads a form. A price whose model was changed since its fields were shown is wrong until they are.
func readDraft(form url.Values) draft {
	d := draft{wrong: map[string]string{}}
	for i := 0; form.Has(planAt(i) + ".key"); i++ {
		at := planAt(i)
		version, _ := strconv.Atoi(form.Get(at + ".version"))
		plan := draftPlan{Key: form.Get(at + ".key"), Version: version}
		for j := 0; form.Has(bookAt(at, j) + ".currency"); j++ {
			at := bookAt(at, j)
			book := draftBook{Currency: form.Get(at + ".currency"), Fields: typed(form, at, bookFields)}
			for k := 0; form.Has(priceAt(at, k) + ".meter"); k++ {
				at := priceAt(at, k)
				price := draftPrice{Meter: form.Get(at + ".meter"), Fields: typed(form, at, priceFields)}
				for t := 0; form.Has(tierAt(at, t) + ".unit_price"); t++ {
					price.Tiers = append(price.Tiers, typed(form, tierAt(at, t), tierFields))
				}
				if was := form.Get(at + ".was"); was != price.Fields["model"] {
					d.wrong[at+".model"] = "is " + words(price.Fields["model"]) + " now: look at its fields, and try again"
					price.begin()
				}
				book.Prices = append(book.Prices, price)
			}
			plan.Books = append(plan.Books, book)
		}
		d.Plans = append(d.Plans, plan)
	}
	return d
}

// typed are the fields at a path, without the space around them.
func typed(form url.Values, at string, fields []string) map[string]string {
	out := map[string]string{}
	for _, f := range fields {
		out[f] = strings.TrimSpace(form.Get(at + "." + f))
	}
	return out
}

// begin gives a price that became one of tiers a first one.
func (p *draftPrice) begin() {
	if p.tiered() && len(p.Tiers) == 0 {
		p.Tiers = []map[string]string{{"unit_price": p.Fields["unit_price"]}}
	}
}

// change does what a button of the form says: add, drop or tier, a colon, and where. False: there is no such button.
func (d *draft) change(what string, form url.Values) bool {
	do, at, _ := strings.Cut(what, ":")
	for i := range d.Plans {
		for j := range d.Plans[i].Books {
			book, bookPath := &d.Plans[i].Books[j], bookAt(planAt(i), j)
			if do == "add" && at == bookPath {
				meter := form.Get(bookPath + ".new")
				if meter != "" && !slices.ContainsFunc(book.Prices, func(p draftPrice) bool { return p.Meter == meter }) {
					book.Prices = append(book.Prices, draftPrice{Meter: meter, Fields: map[string]string{"model": string(plans.PerUnit)}})
				}
				return true
			}
			for k := range book.Prices {
				if book.changePrice(do, at, k, priceAt(bookPath, k)) {
					return true
				}
			}
		}
	}
	return false
}

func (b *draftBook) changePrice(do, at string, k int, path string) bool {
	price := &b.Prices[k]
	switch {
	case do == "drop" && at == path:
		b.Prices = slices.Delete(b.Prices, k, k+1)
		return true
	case do == "tier" && at == path:
		// The last one has no end: another one comes before it.
		price.Tiers = slices.Insert(price.Tiers, max(0, len(price.Tiers)-1), map[string]string{})
		return true
	case do == "drop":
		for t := range price.Tiers {
			if at == tierAt(path, t) {
				price.Tiers = slices.Delete(price.Tiers, t, t+1)
				return true
			}
		}
	}
	return false
}

// fields counts what the form shows.
func (d draft) fields() int {
	n := 0
	for _, p := range d.Plans {
		for _, b := range p.Books {
			n += len(bookFields)
			for _, price := range b.Prices {
				n += len(priceFields) - len(onlyOf) + 2 + len(price.Tiers)*len(tierFields)
			}
		}
	}
	return n
}

// books are a plan's as the API takes them. What is no whole number is wrong; all else the API says.
func (d *draft) books(i int) []gen.PriceBook {
	out := []gen.PriceBook{}
	for j, b := range d.Plans[i].Books {
		at := bookAt(planAt(i), j)
		book := gen.PriceBook{
			Currency: b.Currency, Minimum: b.Fields["minimum"], DiscountPercent: b.Fields["discount_percent"], Rounding: money.Rounding(b.Fields["rounding"]),
		}
		if amount, prorate := b.Fields["base_fee.amount"], b.Fields["base_fee.prorate"]; amount != "" || prorate != "" {
			if amount == "" {
				amount = "0"
			}
			book.BaseFee = &gen.BaseFee{Amount: amount, Prorate: plans.Proration(prorate)}
		}
		for k, p := range b.Prices {
			book.Prices = append(book.Prices, d.price(priceAt(at, k), p))
		}
		out = append(out, book)
	}
	return out
}

func (d *draft) price(at string, p draftPrice) gen.Price {
	fields := maps.Clone(p.Fields)
	for field := range fields {
		if !p.has(field) {
			delete(fields, field)
		}
	}
	out := gen.Price{
		Meter: p.Meter, Model: p.model(), Basis: plans.Basis(fields["basis"]), UnitPrice: fields["unit_price"], FlatFee: fields["flat_fee"],
		PackagePrice: fields["package_price"], Minimum: fields["minimum"], DiscountPercent: fields["discount_percent"],
		Prorate: plans.Proration(fields["prorate"]), Per: d.number(at+".per", fields["per"]),
		PackageSize: d.number(at+".package_size", fields["package_size"]), Included: d.number(at+".included", fields["included"]),
	}
	if !p.tiered() {
		return out
	}
	for i, t := range p.Tiers {
		at := tierAt(at, i)
		out.Tiers = append(out.Tiers, gen.PriceTier{UpTo: d.number(at+".up_to", t["up_to"]), UnitPrice: t["unit_price"], FlatFee: t["flat_fee"]})
	}
	return out
}

func (d *draft) number(at, text string) int64 {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		d.wrong[at] = fmt.Sprintf("%q must be a whole number, of digits alone", text)
	}
	return n
}

// proposal is what the draft comes to, beside the plans in force: the catalog to try, and the plans to put where they differ.
type proposal struct {
	catalog gen.ProposedCatalog
	puts    []gen.PlanPut
	// places are those of puts in the draft.
	places  []int
	changes []change
}

func (d *draft) propose(inForce []gen.Plan) (proposal, error) {
	var out proposal
	for i, plan := range d.Plans {
		at := slices.IndexFunc(inForce, func(p gen.Plan) bool { return p.Key == plan.Key })
		if at < 0 {
			return out, notFound("plan " + plan.Key)
		}
		base := inForce[at]
		after := base
		after.PriceBooks = d.books(i)
		changes, err := changesBetween(base, after)
		if err != nil {
			return out, err
		}
		for _, c := range changes {
			c.Field = plan.Key + " " + c.Field
			out.changes = append(out.changes, c)
		}
		if len(changes) > 0 {
			out.puts, out.places = append(out.puts, putOf(after)), append(out.places, i)
		}
		out.catalog.Plans = append(out.catalog.Plans, proposedOf(putOf(after), base.Version+1, nil))
	}
	return out, nil
}

// proposedOf makes a plan that is put one that is tried, of a version. Where it has no prices, these are kept.
func proposedOf(put gen.PlanPut, version int, kept []gen.PriceBook) gen.ProposedPlan {
	out := gen.ProposedPlan{Key: put.Key, Name: put.Name, Version: version, RateLimit: put.RateLimit, PriceBooks: kept}
	if put.PriceBooks != nil {
		out.PriceBooks = *put.PriceBooks
	}
	for _, e := range put.Entitlements {
		one := gen.ProposedEntitlement{Meter: e.Meter, Mode: e.Mode, Max: e.Max}
		if e.Window != nil {
			one.Window = *e.Window
		}
		out.Entitlements = append(out.Entitlements, one)
	}
	return out
}
