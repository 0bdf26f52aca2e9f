package journal_test

import (
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter/journal"
)

// A process appends, and ends before it could flush. The next one replays what is
// left.
func Example() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	now := time.Date(2026, 10, 5, 12, 0, 0, 0, time.UTC)
	organization := uuid.MustParse("018f0000-0000-7000-8000-000000000001")

	first, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7())})
	if err != nil {
		panic(err)
	}
	for _, quantity := range []int64{3, 4} {
		_, err := first.Append(journal.Record{
			Organization: organization,
			Meter:        "evaluations",
			Day:          calendar.DayOf(now),
			Quantity:     quantity,
			At:           now.UnixNano(),
		})
		if err != nil {
			panic(err)
		}
	}
	first.Close()

	second, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7())})
	if err != nil {
		panic(err)
	}
	defer second.Close()
	for _, segment := range second.Recovered() {
		var summary journal.Summary
		var total int64
		for record, err := range journal.Read(segment, &summary) {
			if err != nil {
				panic(err) // The file is kept, for people to look at.
			}
			total += record.Quantity
		}
		fmt.Printf("batch %d: %d records, %d evaluations, %d bytes cut\n", segment.ID.Seq, summary.Records, total, summary.Cut)
		// ... apply it as the batch segment.ID; when it is acknowledged:
		if err := second.Written(segment.ID); err != nil {
			panic(err)
		}
	}
	// Output: batch 1: 2 records, 7 evaluations, 0 bytes cut
}
