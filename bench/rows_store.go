package main

import "fmt"

func flushRows(sizes) (out []row) {
	of := func(writers int, keys string, leased bool) string {
		return fmt.Sprintf("Writers/writers=%d/keys=%s/leased=%t", writers, keys, leased)
	}
	words := map[string]string{"same": "the same records", "own": "records of their own"}
	add := func(writers int, keys string, leased bool, beside, peer, goal string) {
		what := fmt.Sprintf("%d writers, %s", writers, words[keys])
		if writers == 1 {
			what = "one writer"
		}
		if leased {
			what += ", leased"
		}
		out = append(out, row{part: "flush", what: what, beside: beside, subject: of(writers, keys, leased), peer: peer, unit: "rows/s", goal: goal})
	}
	for _, leased := range []bool{false, true} {
		for _, writers := range []int{2, 4, 8} {
			add(writers, "same", leased, "one writer", of(1, "same", leased), "writers of the same")
			add(writers, "own", leased, "one writer", of(1, "same", leased), "")
		}
		slowest := "8 writers, the same records: the slowest batch"
		if leased {
			slowest += ", leased"
		}
		out = append(out, row{
			part: "flush", what: slowest,
			subject: of(8, "same", leased), unit: "slowest-ns", goal: "the slowest batch",
		})
	}
	for _, writers := range []int{1, 2, 4, 8} {
		add(writers, "same", false, fmt.Sprintf("COPY of %d", writers), fmt.Sprintf("WritersBeside/way=copy/writers=%d", writers), "")
		add(writers, "same", false, fmt.Sprintf("row by row, of %d", writers), fmt.Sprintf("WritersBeside/way=rows/writers=%d", writers), "")
	}
	return out
}

func foldRows(s sizes) (out []row) {
	for _, n := range s.folded {
		for _, run := range []string{"first", "again"} {
			out = append(out, row{
				part: "fold", what: fmt.Sprintf("rollup of %s batch rows, %s", count(n*5*s.perDay), run), beside: "COPY",
				subject: fmt.Sprintf("RollUpDay/organizations=%d/run=%s", n, run), ratio: "x-COPY", unit: "ns/op", goal: "a fold",
			})
		}
	}
	for _, n := range s.folded {
		out = append(out, row{
			part: "fold", what: fmt.Sprintf("freeze of 31 rolled days of %s organizations", count(n)), beside: "COPY",
			subject: fmt.Sprintf("FreezeExport/organizations=%d/run=freeze", n), ratio: "x-COPY", unit: "ns/op", goal: "a fold",
		})
	}
	return out
}

func closeRows(s sizes) (out []row) {
	for _, n := range s.closed {
		of := fmt.Sprintf("Close/organizations=%d", n)
		for _, stage := range []struct{ name, what string }{
			{"/stage=freezing", "freeze"}, {"/stage=rating", "rating"}, {"/stage=writing", "files of the export"}, {"", "close up to approval"},
		} {
			out = append(out, row{
				part: "close", what: fmt.Sprintf("%s of %s organizations", stage.what, count(n)), beside: "COPY of the frozen usage",
				subject: of + stage.name, ratio: "x-COPY", unit: "ns/op",
			})
		}
		out = append(out,
			row{part: "close", what: fmt.Sprintf("dry run of %s organizations", count(n)), subject: of + "/stage=dry-run", unit: "ns/op"},
			row{part: "close", what: fmt.Sprintf("worker's memory, %s organizations", count(n)), beside: "before", subject: of, ratio: "x-before", unit: "MiB-peak"},
			row{part: "close", what: fmt.Sprintf("history, %s organizations", count(n)), subject: of, unit: "events"},
		)
	}
	return out
}

func economyRows(sizes) []row {
	out := []row{
		{part: "temporal", what: "an instance's hour", subject: "InstanceHour", unit: "actions/h", goal: "Temporal"},
		{part: "temporal", what: "an instance's hour", subject: "InstanceHour", unit: "history-events/h"},
		{part: "dispatch", what: "events to one endpoint each, sixteen at once", subject: "Dispatch", unit: "events/s"},
	}
	for _, listeners := range []int{50, 300} {
		of := "Recall/listeners=%d/shared=false"
		out = append(out, row{
			part: "recall", what: fmt.Sprintf("commits that recall quota, %d listen", listeners), beside: "nobody listens",
			subject: fmt.Sprintf(of, listeners), peer: fmt.Sprintf(of, 0), unit: "commits/s",
		})
	}
	return out
}
