package plans

// Aggregation says how the reports of one meter fold into one value a day.
type Aggregation string

// The aggregations.
const (
	// Sum adds quantities: evaluations, requests, tokens.
	Sum Aggregation = "sum"
	// Max keeps the highest level that was reported: the daily peak.
	Max Aggregation = "max"
	// Last keeps the level that was reported last: a point-in-time snapshot.
	Last Aggregation = "last"
)

// Valid reports whether a is one of the aggregations.
func (a Aggregation) Valid() bool { return a == Sum || a == Max || a == Last }

// MaxQuantity is the largest quantity that one report may bear: 10^15.
const MaxQuantity = 1_000_000_000_000_000

// MaxDaySum is the most that the reports of one [Sum] meter of an organization may add up
// to on one day: 10^17. What would pass it is refused, so the sum of a month is at most
// [MaxMonthSum], and no sum over days of a month leaves an int64.
const MaxDaySum = 100 * MaxQuantity

// MaxMonthSum is the most that a month's days can add up to: 3.1·10^18.
const MaxMonthSum = 31 * MaxDaySum

// Meter is something that is counted.
type Meter struct {
	// Key names the meter everywhere: in requests, tables, exports. Lower-case
	// letters, digits and underscores, 1 to 63 of them, a letter first.
	Key string `json:"key" yaml:"key"`
	// Name is what people read.
	Name string `json:"name" yaml:"name"`
	// Aggregation folds reports into one value a day.
	Aggregation Aggregation `json:"aggregation" yaml:"aggregation"`
	// Unit is the singular of what one is: "evaluation", "byte".
	Unit string `json:"unit" yaml:"unit"`
}

// Fold adds one report to a day's value under the aggregation. For Last the
// caller has made sure that the report is the newer one.
func (a Aggregation) Fold(value, report int64) int64 {
	switch a {
	case Max:
		return max(value, report)
	case Last:
		return report
	default:
		return value + report
	}
}
