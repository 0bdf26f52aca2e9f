package calendar_test

import (
	"fmt"

	"github.com/riverline/tollgate/calendar"
)

func ExamplePeriod() {
	february, err := calendar.ParsePeriod("2024-02")
	if err != nil {
		panic(err)
	}
	fmt.Println(february.FirstDay(), february.LastDay(), february.Previous())
	// Output: 2024-02-01 2024-02-29 2024-01
}
