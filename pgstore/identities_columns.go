package pgstore

import (
	"time"

	"github.com/riverline/tollgate/meter"
)

// identifiedArrays are the columns of usage_events for some identified reports. What many of them share is
// there once, as their kind: to take sixteen arrays of 50,000 apart costs Postgres as much as half of what it does
// with their rows.
type identifiedArrays struct {
	identities, fingerprints [][]byte
	quantities, currents     []int64
	ats                      []time.Time
	// kinds are places in the columns of kinds, from 1.
	kinds []int32

	organizations            [][16]byte
	days                     []int32
	leasedDays, leasedMonths []int64
	overLimits               []bool
	helds, maxes             []int64
	// meters, plans, modes and windows are places in texts, from 1: elements of one length are found without a look at those
	// before them, and there are few texts.
	meters, plans, modes, windows []int32
	texts                         []string
}

// identifiedKind is what reports share.
type identifiedKind struct {
	organization              [16]byte
	day                       int32
	leased                    meter.Leased
	overLimit                 bool
	held, max                 int64
	meter, plan, mode, window string
}

// kindsOf collects the kinds of reports.
type kindsOf struct {
	a      *identifiedArrays
	places map[identifiedKind]int32
	texts  map[string]int32
	// last is the kind of the report before, which most are of.
	last  identifiedKind
	place int32
}

// arrays returns the columns of some identified reports.
func (e *identifiedReports) arrays(places []meter.BatchPlace) *identifiedArrays {
	n := len(places)
	a := &identifiedArrays{
		identities: make([][]byte, n), fingerprints: make([][]byte, n), quantities: make([]int64, n), currents: make([]int64, n),
		ats: make([]time.Time, n), kinds: make([]int32, n),
	}
	kinds := kindsOf{a: a, places: map[identifiedKind]int32{}, texts: map[string]int32{}}
	for i, p := range places {
		identified := e.at(p)
		a.identities[i], a.fingerprints[i] = identified.Identity[:], identified.Fingerprint[:]
		a.quantities[i], a.ats[i], a.currents[i] = identified.Quantity, identified.At, identified.Receipt.Current
		a.kinds[i] = kinds.of(&e.rows[p.Row], identified)
	}
	return a
}

// of returns the place of a report's kind.
func (k *kindsOf) of(row *meter.Row, identified *meter.IdentifiedReport) int32 {
	r := &identified.Receipt
	kind := identifiedKind{
		row.Organization, int32(row.Day), identified.Leased, r.OverLimit, r.Held, r.Max,
		row.Meter, r.Plan, string(r.Mode), string(r.Window),
	}
	if k.place > 0 && kind == k.last {
		return k.place
	}
	place, there := k.places[kind]
	if !there {
		place = k.add(kind)
		k.places[kind] = place
	}
	k.last, k.place = kind, place
	return place
}

func (k *kindsOf) add(kind identifiedKind) int32 {
	a := k.a
	a.organizations, a.days = append(a.organizations, kind.organization), append(a.days, kind.day)
	a.leasedDays, a.leasedMonths = append(a.leasedDays, kind.leased.Day), append(a.leasedMonths, kind.leased.Month)
	a.overLimits, a.helds, a.maxes = append(a.overLimits, kind.overLimit), append(a.helds, kind.held), append(a.maxes, kind.max)
	a.meters, a.plans = append(a.meters, k.text(kind.meter)), append(a.plans, k.text(kind.plan))
	a.modes, a.windows = append(a.modes, k.text(kind.mode)), append(a.windows, k.text(kind.window))
	return int32(len(a.organizations))
}

// text returns the place of a text.
func (k *kindsOf) text(text string) int32 {
	place, there := k.texts[text]
	if !there {
		k.a.texts = append(k.a.texts, text)
		place = int32(len(k.a.texts))
		k.texts[text] = place
	}
	return place
}

// keys returns the organizations and the identities of some identified reports.
func (e *identifiedReports) keys(places []meter.BatchPlace) (organizations [][16]byte, identities [][]byte) {
	organizations, identities = make([][16]byte, len(places)), make([][]byte, len(places))
	for i, p := range places {
		organizations[i], identities[i] = e.rows[p.Row].Organization, e.at(p).Identity[:]
	}
	return organizations, identities
}
