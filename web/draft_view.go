package web

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/plans"
)

// field is one of a form, with what is wrong with it.
type field struct {
	// ID is short: a name can be long.
	ID, Name, Label, Value string
	// Options make it a choice; the empty one is named None.
	Options []string
	None    string
	Whole   bool
	// Default says what counts where the field is empty.
	Default string
	// Wrong names the plan, the meter, the field and the rule.
	Wrong string
}

// wrongField leads to a field that is wrong.
type wrongField struct{ ID, Says string }

// planPrices are a plan's prices in a form.
type planPrices struct {
	At, Key, Name string
	Version       int
	Books         []bookPrices
}

type bookPrices struct {
	At, Currency string
	Fields       []field
	Prices       []meterPrice
	// Free are the meters without a price.
	Free []gen.Meter
	// New is the field that chooses one of them.
	New string
}

type meterPrice struct {
	At, Meter, Name, Unit, ID string
	Model                     field
	Fields                    []field
	// Kept were typed for other models.
	Kept   []field
	Tiers  []tierPrice
	Tiered bool
	// Wrong is of the price as a whole: its tiers.
	Wrong string
}

type tierPrice struct {
	At string
	// From is the tier's first unit: the one after the last of the tier before.
	From   string
	Number int
	Last   bool
	Fields []field
}

// form lays a draft out.
type form struct {
	draft draft
	page  *pricesPage
	ids   int
}

// fill puts a draft into the page, and what is wrong with it.
func (p *pricesPage) fill(d draft, catalog gen.Catalog) {
	f := &form{draft: d, page: p}
	left := maps.Clone(d.wrong)
	for i, plan := range d.Plans {
		at := planAt(i)
		one := planPrices{At: at, Key: plan.Key, Name: plan.Key, Version: plan.Version}
		for _, known := range catalog.Plans {
			if known.Key == plan.Key {
				one.Name = known.Name
			}
		}
		for j, book := range plan.Books {
			one.Books = append(one.Books, f.book(bookAt(at, j), one.Name, book, catalog.Meters))
		}
		p.Plans = append(p.Plans, one)
	}
	for _, w := range p.Wrong {
		for at, rule := range left {
			if strings.HasSuffix(w.Says, rule) {
				delete(left, at)
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(left)) {
		p.Wrong = append(p.Wrong, wrongField{"", at + ": " + left[at]})
	}
}

func (f *form) id() string {
	f.ids++
	return "f" + strconv.Itoa(f.ids)
}

// wrongAt says what is wrong at a path, in words, and that the page has it at an ID.
func (f *form) wrongAt(at, id string, path ...string) string {
	rule, ok := f.draft.wrong[at]
	if !ok {
		return ""
	}
	says := strings.Join(path, ", ") + ": " + rule
	f.page.Wrong = append(f.page.Wrong, wrongField{id, says})
	return says
}

func (f *form) field(at, name, label, value string, path ...string) field {
	id := f.id()
	return field{ID: id, Name: at + "." + name, Label: label, Value: value, Default: defaultOf(name), Wrong: f.wrongAt(at+"."+name, id, append(path, strings.ToLower(label))...)}
}

// defaultOf says what counts where a field is empty; empty: it must be filled in.
func defaultOf(name string) string {
	switch name {
	case "base_fee.amount", "minimum", "discount_percent", "included", "flat_fee":
		return "0"
	case "per":
		return "1"
	default:
		return ""
	}
}

func (f *form) choice(at, name, label, value string, options []string, none string, path ...string) field {
	out := f.field(at, name, label, value, path...)
	out.Options, out.None = options, none
	return out
}

func (f *form) book(at, plan string, b draftBook, meters []gen.Meter) bookPrices {
	path := []string{plan, b.Currency}
	out := bookPrices{At: at, Currency: b.Currency, New: f.id(), Fields: []field{
		f.field(at, "base_fee.amount", "Base fee", b.Fields["base_fee.amount"], path...),
		f.choice(at, "base_fee.prorate", "Prorated by", b.Fields["base_fee.prorate"], prorations, "none", path...),
		f.field(at, "minimum", "Minimum", b.Fields["minimum"], path...),
		f.field(at, "discount_percent", "Discount in %", b.Fields["discount_percent"], path...),
		f.choice(at, "rounding", "Rounding", b.Fields["rounding"], roundings, "half up", path...),
	}}
	for k, p := range b.Prices {
		out.Prices = append(out.Prices, f.price(priceAt(at, k), path, p, meters))
	}
	for _, m := range meters {
		if !slices.ContainsFunc(b.Prices, func(p draftPrice) bool { return p.Meter == m.Key }) {
			out.Free = append(out.Free, m)
		}
	}
	return out
}

// priceLabels are the fields of a price beside its model, in the order in which they are shown.
var priceLabels = []struct {
	name, label string
	whole       bool
}{
	{"unit_price", "Unit price", false},
	{"flat_fee", "Flat fee", false},
	{"package_size", "Units of a package", true},
	{"package_price", "Price of a package", false},
	{"per", "Units of a unit price", true},
	{"included", "Included units", true},
	{"minimum", "Minimum", false},
	{"discount_percent", "Discount in %", false},
}

func (f *form) price(at string, path []string, p draftPrice, meters []gen.Meter) meterPrice {
	out := meterPrice{At: at, Meter: p.Meter, Name: nameOf(meters, p.Meter), ID: f.id(), Tiered: p.tiered()}
	snapshot := false
	for _, m := range meters {
		if m.Key == p.Meter {
			out.Unit, snapshot = m.Unit, m.Aggregation == plans.Last
		}
	}
	path = append(slices.Clone(path), p.Meter)
	out.Model = f.choice(at, "model", "Model", p.Fields["model"], priceModels, "", path...)
	for _, l := range priceLabels {
		if !p.has(l.name) {
			if p.Fields[l.name] != "" {
				out.Kept = append(out.Kept, field{Name: at + "." + l.name, Value: p.Fields[l.name]})
			}
			continue
		}
		one := f.field(at, l.name, l.label, p.Fields[l.name], path...)
		one.Whole = l.whole
		out.Fields = append(out.Fields, one)
	}
	out.Fields = append(out.Fields, f.choice(at, "prorate", "Prorated by", p.Fields["prorate"], prorations, "none", path...))
	if snapshot || p.Fields["basis"] != "" {
		out.Fields = append(out.Fields, f.choice(at, "basis", "What is priced", p.Fields["basis"], bases, "average", path...))
	}
	out.Wrong = f.wrongAt(at+".tiers", out.ID, append(path, "tiers")...)
	for i, t := range p.Tiers {
		if !p.tiered() {
			for _, name := range tierFields {
				out.Kept = append(out.Kept, field{Name: tierAt(at, i) + "." + name, Value: t[name]})
			}
			continue
		}
		out.Tiers = append(out.Tiers, f.tier(tierAt(at, i), i, path, p))
	}
	return out
}

func (f *form) tier(at string, i int, path []string, p draftPrice) tierPrice {
	t := p.Tiers[i]
	path = append(slices.Clone(path), fmt.Sprintf("tier %d", i+1))
	out := tierPrice{At: at, Number: i + 1, Last: i == len(p.Tiers)-1, From: "1"}
	if i > 0 {
		out.From = "the unit after tier " + strconv.Itoa(i)
		if before, err := strconv.ParseInt(p.Tiers[i-1]["up_to"], 10, 64); err == nil {
			out.From = number(before + 1)
		}
	}
	upTo := f.field(at, "up_to", "Up to", t["up_to"], path...)
	upTo.Whole = true
	if out.Last {
		upTo.Default = "no end"
	}
	out.Fields = []field{upTo, f.field(at, "unit_price", "Unit price", t["unit_price"], path...), f.field(at, "flat_fee", "Flat fee", t["flat_fee"], path...)}
	return out
}
