package main

import "fmt"

// row is a row of the table: what was measured, and beside what.
type row struct {
	part string
	// what and beside say it in words.
	what, beside string
	// subject and peer are the names of benchmarks, without "Benchmark" and the number of cores. A row
	// without a peer has no ratio, or has ratio: the unit in which the subject reports it itself.
	subject, peer, ratio string
	// unit is that of the figures.
	unit string
	// goal is the name of a goal; empty: there is none.
	goal string
}

// rows are those of a run of some sizes, in the order of the parts.
func rows(s sizes) []row {
	var out []row
	for _, of := range []func(sizes) []row{
		decisionRows, memoryRows, asksRows, journalRows, decimalRows, batchRows, httpRows, keyedRows, flushRows, foldRows, closeRows, economyRows,
	} {
		out = append(out, of(s)...)
	}
	return out
}

// count is a number in words, as far as the table needs it.
func count(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%d million", n/1_000_000)
	case n >= 10_000 && n%1000 == 0:
		return fmt.Sprintf("%d thousand", n/1000)
	}
	return short(float64(n))
}

// many is a number of things.
func many(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return short(float64(n)) + " " + thing + "s"
}

func decisionRows(s sizes) (out []row) {
	of := func(organizations, cores int, keys, subject string) string {
		return fmt.Sprintf("Decision/organizations=%d/cores=%d/keys=%s/subject=%s", organizations, cores, keys, subject)
	}
	for i, n := range s.organizations {
		add := func(cores int, keys, what, subject, beside, peer, goal string) {
			out = append(out, row{
				part: "decision", what: fmt.Sprintf("%s; %s organizations, %s, %s", what, count(n), many(cores, "core"), keys), beside: beside,
				subject: of(n, cores, keys, subject), peer: of(n, cores, keys, peer), unit: "cpu-ns/op", goal: goal,
			})
		}
		const use = "find and use"
		add(1, "uniform", use, "find-use", "go-limiter", "go-limiter", "a limiter")
		add(1, "uniform", use, "find-use", "CounterVec", "CounterVec", "a limiter")
		add(1, "uniform", use, "find-use", "sharded map", "sharded-map", []string{"a map, small", "a map, large"}[i])
		add(1, "uniform", use, "find-use", "sharded map with a clock", "sharded-map-clock", "")
		add(1, "uniform", use, "find-use", "xsync.Map", "xsync.Map", "")
		add(1, "uniform", use+", journal", "find-use-journal", "sharded map", "sharded-map", "the journal")
		add(1, "uniform", use, "find-use", "in two steps", "find-admit-commit", "")
		add(1, "uniform", "use, in hand", "in-hand-use", "bare padded atomic", "in-hand-padded-atomic", "")
		for _, keys := range []string{"uniform", "zipf"} {
			for _, cores := range []int{1, 2} {
				if cores == 1 && keys == "uniform" {
					continue
				}
				add(cores, keys, use, "find-use", "go-limiter", "go-limiter", "")
				add(cores, keys, use, "find-use", "sharded map", "sharded-map", "")
			}
			for _, subject := range []struct{ what, name, goal string }{
				{use, "find-use", "two cores"}, {"sharded map", "sharded-map", ""}, {"go-limiter", "go-limiter", ""},
			} {
				out = append(out, row{
					part: "decision", what: fmt.Sprintf("1 → 2 cores: %s; %s organizations, %s", subject.what, count(n), keys), beside: "throughput of 2 to 1",
					subject: of(n, 1, keys, subject.name), peer: of(n, 2, keys, subject.name), unit: "ns/op", goal: subject.goal,
				})
			}
		}
		out = append(out, row{
			part: "decision", what: fmt.Sprintf("find and use; %s organizations", count(n)),
			subject: of(n, 1, "uniform", "find-use"), unit: "allocs/op", goal: "no allocation",
		})
	}
	return out
}

func memoryRows(sizes) []row {
	return []row{{part: "memory", what: "an idle organization", subject: "IdleOrganization", unit: "B/organization", goal: "an idle organization"}}
}

func asksRows(sizes) (out []row) {
	add := func(others int, rate, unit, goal string) {
		what := fmt.Sprintf("a window used at %s/s, %s live", rate, many(others, "other"))
		out = append(out, row{part: "asks", what: what, subject: fmt.Sprintf("Asks/others=%d/rate=%s", others, rate), unit: unit, goal: goal})
	}
	for _, others := range []int{1, 5} {
		add(others, "0.1", "asks/event", "asks")
	}
	for _, rate := range []string{"0.01", "0.1", "1", "100"} {
		add(300, rate, "asks/event", "asks")
	}
	add(300, "0.1", "waits/event", "waits")
	return out
}

func journalRows(sizes) (out []row) {
	add := func(survives string, cores, goroutines int, subject, peer, beside string) {
		of := fmt.Sprintf("Journal/survives=%s/cores=%d/goroutines=%d/subject=", survives, cores, goroutines)
		out = append(out, row{
			part: "journal", what: fmt.Sprintf("append that survives %s, %s", map[string]string{"process": "the process", "power": "a loss of power"}[survives], many(goroutines, "goroutine")), beside: beside,
			subject: of + subject, peer: of + peer, unit: "ns/op",
		})
	}
	for _, goroutines := range []int{1, 2, 128} {
		cores := min(2, goroutines)
		add("process", cores, goroutines, "tollgate-process", "write", "write(2)")
		add("process", cores, goroutines, "tollgate-process", "coalesced-write", "write(2), coalesced")
		add("process", cores, goroutines, "tollgate-process", "tidwall-wal-NoSync", "tidwall/wal")
		add("process", cores, goroutines, "tollgate-process", "prometheus-wlog", "prometheus wlog")
		add("power", cores, goroutines, "tollgate-disk", "tidwall-wal", "tidwall/wal")
		add("power", cores, goroutines, "tollgate-disk", "raft-wal", "raft-wal")
		add("power", cores, goroutines, "tollgate-disk", "etcd-wal", "etcd's log")
	}
	return out
}

func decimalRows(sizes) []row {
	return []row{
		{part: "decimal", what: "three tiers, rounded: shopspring/decimal", beside: "apd", subject: "Shopspring", peer: "Apd", unit: "ns/op"},
		{part: "decimal", what: "three tiers, rounded: shopspring/decimal", beside: "big.Rat", subject: "Shopspring", peer: "Rat", unit: "ns/op"},
	}
}

func batchRows(sizes) (out []row) {
	for _, items := range []struct{ what, name string }{{"plain", "plain"}, {"with a time", "with_a_time"}, {"with a key", "with_a_key"}} {
		out = append(out, row{part: "batch", what: "handler of 1,000 items, no network: " + items.what, subject: "RecordBatch/" + items.name, unit: "items/s"})
	}
	return out
}

func httpRows(sizes) (out []row) {
	for _, request := range []struct{ what, name string }{
		{"`POST /usage`", "usage"}, {"`POST /usage/batch`, 100 items", "batch-of-100"}, {"`POST /usage/batch`, 1,000 items", "batch-of-1000"}, {"gateway", "gateway"},
	} {
		goal := func(name string) string {
			if request.name == "usage" {
				return name
			}
			return ""
		}
		beside := "bare gin handler"
		if request.name == "gateway" {
			beside = "bare ReverseProxy"
		}
		add := func(load, what, unit, goal string) {
			of := fmt.Sprintf("HTTP/request=%s/load=%s/server=", request.name, load)
			out = append(out, row{
				part: "http", what: request.what + ", " + what, beside: beside,
				subject: of + "tollgate", peer: of + "bare", unit: unit, goal: goal,
			})
		}
		add("closed", "capacity", "req/s", goal("capacity"))
		add("open", "p50 at 70 %", "p50-ns", "")
		add("open", "p99 at 70 %", "p99-ns", goal("p99"))
		add("open", "p99.9 at 70 %", "p999-ns", "")
	}
	return append(out, row{
		part: "http", what: "`POST /usage/batch`, 1,000 items", subject: "HTTP/request=batch-of-1000/load=closed/server=tollgate", unit: "items/s", goal: "items",
	})
}

func keyedRows(sizes) []row {
	return []row{
		{
			part: "keyed", what: "1,000 items with keys a request, to rows in Postgres", beside: "Postgres alone, the same table",
			subject: "Keyed/by=tollgate", peer: "Keyed/by=postgres", unit: "rows/s", goal: "keyed items",
		},
		{part: "keyed", what: "the watermark's lag meanwhile, at most", subject: "Keyed/by=tollgate", unit: "intervals-lag", goal: "the watermark"},
	}
}
