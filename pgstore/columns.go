package pgstore

import (
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// chunkRows is how many rows one statement takes. Tests have few, to cross statements with few rows.
var chunkRows = 50_000

// columns are the rows of a batch as arrays, in the order of their key.
type columns struct {
	organizations [][16]byte
	meters        []string
	days          []int32
	plans         []string
	planVersions  []int64
	values        []int64
	ats           []time.Time
	// leased is nil where no row has anything leased.
	leased []meter.Leased

	// distinctDays is sorted.
	distinctDays []int32
	aggregations map[string]plans.Aggregation
	// place is, for each row as it is written, its place in the batch; nil where
	// the batch is in order.
	place []int
}

func newColumns(rows []meter.Row) (*columns, error) {
	c := &columns{
		organizations: make([][16]byte, len(rows)),
		meters:        make([]string, len(rows)),
		days:          make([]int32, len(rows)),
		plans:         make([]string, len(rows)),
		planVersions:  make([]int64, len(rows)),
		values:        make([]int64, len(rows)),
		ats:           make([]time.Time, len(rows)),
		aggregations:  map[string]plans.Aggregation{},
	}
	if !slices.IsSortedFunc(rows, meter.CompareRows) {
		c.place = make([]int, len(rows))
		for i := range c.place {
			c.place[i] = i
		}
		slices.SortFunc(c.place, func(i, j int) int { return meter.CompareRows(rows[i], rows[j]) })
	}
	for i := range rows {
		row := &rows[c.placeOf(i)]
		if i > 0 && meter.CompareRows(rows[c.placeOf(i-1)], *row) == 0 {
			return nil, fmt.Errorf("%w: organization %s, meter %s, day %s, plan %q version %d",
				errTwice, row.Organization, row.Meter, row.Day, row.Plan, row.PlanVersion)
		}
		if known, seen := c.aggregations[row.Meter]; seen && known != row.Aggregation {
			return nil, fmt.Errorf("%w: %s is both %s and %s", ErrUnknownMeter, row.Meter, known, row.Aggregation)
		}
		c.aggregations[row.Meter] = row.Aggregation
		c.organizations[i] = row.Organization
		c.meters[i] = row.Meter
		c.days[i] = int32(row.Day)
		c.plans[i], c.planVersions[i] = row.Plan, int64(row.PlanVersion)
		if len(c.distinctDays) == 0 || !slices.Contains(c.distinctDays, int32(row.Day)) {
			c.distinctDays = append(c.distinctDays, int32(row.Day))
		}
	}
	slices.Sort(c.distinctDays)
	return c, nil
}

func (c *columns) placeOf(i int) int {
	if c.place == nil {
		return i
	}
	return c.place[i]
}

// put sets what is written of the row at i.
func (c *columns) put(i int, value int64, at time.Time, leased meter.Leased) {
	c.values[i], c.ats[i] = value, at
	if leased == (meter.Leased{}) {
		return
	}
	if c.leased == nil {
		c.leased = make([]meter.Leased, len(c.values))
	}
	c.leased[i] = leased
}

// part returns the rows from, inclusive, to, exclusive. Its arrays are those of c.
func (c *columns) part(from, to int) *columns {
	part := *c
	part.organizations, part.meters, part.days = c.organizations[from:to], c.meters[from:to], c.days[from:to]
	part.plans, part.planVersions = c.plans[from:to], c.planVersions[from:to]
	part.values, part.ats = c.values[from:to], c.ats[from:to]
	if c.leased != nil {
		part.leased = c.leased[from:to]
	}
	part.place = make([]int, to-from)
	for i := range part.place {
		part.place[i] = c.placeOf(from + i)
	}
	return &part
}

// parts cuts the rows into pieces that one statement takes.
func (c *columns) parts() []*columns {
	if len(c.values) <= chunkRows {
		return []*columns{c}
	}
	var parts []*columns
	for from := 0; from < len(c.values); from += chunkRows {
		parts = append(parts, c.part(from, min(from+chunkRows, len(c.values))))
	}
	return parts
}

// split returns the rows that are written, and those that aren't; none is an empty
// columns.
func (c *columns) split(idle []bool) (written, left *columns) {
	if !slices.Contains(idle, true) {
		return c, &columns{}
	}
	pick := func(want bool) *columns {
		out := &columns{distinctDays: c.distinctDays, aggregations: c.aggregations, place: []int{}}
		for i := range c.values {
			if idle[i] != want {
				continue
			}
			out.organizations = append(out.organizations, c.organizations[i])
			out.meters = append(out.meters, c.meters[i])
			out.days = append(out.days, c.days[i])
			out.plans = append(out.plans, c.plans[i])
			out.planVersions = append(out.planVersions, c.planVersions[i])
			out.values = append(out.values, c.values[i])
			out.ats = append(out.ats, c.ats[i])
			out.place = append(out.place, c.placeOf(i))
			if c.leased != nil {
				out.leased = append(out.leased, c.leased[i])
			}
		}
		return out
	}
	return pick(false), pick(true)
}

// ownDays returns the days of the rows themselves, sorted: parts have those of the whole in
// distinctDays.
func (c *columns) ownDays() []int32 {
	days := slices.Clone(c.days)
	slices.Sort(days)
	return slices.Compact(days)
}

// distinctOrganizations returns the organizations of the rows, in their order.
func (c *columns) distinctOrganizations() [][16]byte {
	var distinct [][16]byte
	for i := range c.organizations {
		if n := len(distinct); n == 0 || distinct[n-1] != c.organizations[i] {
			distinct = append(distinct, c.organizations[i])
		}
	}
	return distinct
}

// records folds rows of one organization, meter and day, which several plans may have, into
// one: a statement can't write the same record twice. folded[i] is the place of row i among
// them; nil where each row is alone.
func (c *columns) records() (out *columns, folded []int) {
	same := func(i int) bool {
		return c.days[i] == c.days[i-1] && c.meters[i] == c.meters[i-1] && c.organizations[i] == c.organizations[i-1]
	}
	alone := true
	for i := 1; alone && i < len(c.values); i++ {
		alone = !same(i)
	}
	if alone {
		return c, nil
	}
	out = &columns{aggregations: c.aggregations}
	folded = make([]int, len(c.values))
	for i := range c.values {
		last := len(out.values) - 1
		if i == 0 || !same(i) {
			out.organizations = append(out.organizations, c.organizations[i])
			out.meters = append(out.meters, c.meters[i])
			out.days = append(out.days, c.days[i])
			out.values = append(out.values, c.values[i])
			out.ats = append(out.ats, c.ats[i])
			folded[i] = last + 1
			continue
		}
		folded[i] = last
		switch aggregation := c.aggregations[c.meters[i]]; {
		case aggregation == plans.Sum:
			out.values[last] = plans.AddUpTo(out.values[last], c.values[i])
		case aggregation == plans.Max || !c.ats[i].Before(out.ats[last]):
			out.values[last] = aggregation.Fold(out.values[last], c.values[i])
		}
		if c.ats[i].After(out.ats[last]) {
			out.ats[last] = c.ats[i]
		}
	}
	return out, folded
}

// spread puts the values of [columns.records] in the order of the batch. Of a sum, a row gets the record's value
// without the rows that follow it.
func (c *columns) spread(values []int64, folded []int, stored []int64) error {
	for i := len(c.values) - 1; i >= 0; i-- {
		record := i
		if folded != nil {
			record = folded[i]
		}
		if record >= len(values) {
			return fmt.Errorf("the database answered %d values for %d rows", len(values), len(c.values))
		}
		stored[c.placeOf(i)] = values[record]
		if folded != nil && c.aggregations[c.meters[i]] == plans.Sum {
			values[record] -= c.values[i]
		}
	}
	return nil
}

// metersOf returns the batch's meters that fold by the aggregation.
func (c *columns) metersOf(aggregation plans.Aggregation) []string {
	keys := []string{}
	for key, a := range c.aggregations {
		if a == aggregation {
			keys = append(keys, key)
		}
	}
	return keys
}

// collect reads one value a row, in the order in which the rows were sent, and
// puts them in the order of the batch.
func (c *columns) collect(rows pgx.Rows, stored []int64) error {
	defer rows.Close()
	n := 0
	for ; rows.Next() && n < len(c.values); n++ {
		if err := rows.Scan(&stored[c.placeOf(n)]); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != len(c.values) {
		return fmt.Errorf("the database answered %d rows for %d", n, len(c.values))
	}
	return nil
}
