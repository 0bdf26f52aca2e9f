package plans_test

import (
	"fmt"

	"github.com/riverline/tollgate/plans"
)

func ExampleDecide() {
	free, _ := plans.Default().Plan("free")
	limit := free.Entitlement("evaluations")

	last := plans.Decide(plans.Sum, limit, 999, 0, 1)
	fmt.Println(last.Allowed, last.Current, last.Remaining)

	next := plans.Decide(plans.Sum, limit, 980, 20, 1)
	fmt.Println(next.Allowed, next.Current, next.Held, next.Max)
	// Output:
	// true 1000 0
	// false 980 20 1000
}

func ExampleParse() {
	_, err := plans.Parse([]byte(`
meters:
  - { key: calls, name: Calls, aggregation: sum, unit: call }
plans:
  - key: basic
    version: 1
    name: Basic
    entitlements:
      - { meter: calls, mode: hard, window: week, max: 100 }
`))
	fmt.Println(err)
	// Output:
	// invalid catalog: plans[0].entitlements[0].window: "week" must be day or month
}
