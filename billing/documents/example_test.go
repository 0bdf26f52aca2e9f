package documents_test

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

func exampleTotals() []billing.UsageTotal {
	return []billing.UsageTotal{{
		Organization: uuid.MustParse("0199a000-0000-7000-8000-000000000001"), OrganizationName: "Acme", Plan: "pro",
		Meter: "evaluations", Unit: "evaluation", Aggregation: plans.Sum, Value: 1200,
	}, {
		Organization: uuid.MustParse("0199a000-0000-7000-8000-000000000001"), OrganizationName: "Acme", Plan: "pro",
		Meter: "storage_bytes", Unit: "byte", Aggregation: plans.Last, Value: 4096, UnitSeconds: "353894400",
	}}
}

func ExampleUsageWriter() {
	w := documents.NewUsageWriter(os.Stdout, plans.Default().Meters)
	for _, total := range exampleTotals() {
		if err := w.Write(total); err != nil {
			panic(err)
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	fmt.Println(w.File(documents.UsageFile).Rows, "rows,", w.File(documents.UsageFile).Bytes, "bytes")
	// Output:
	// {"organization_id":"0199a000-0000-7000-8000-000000000001","organization_name":"Acme","plan":"pro","meter":"evaluations","unit":"evaluation","aggregation":"sum","value":1200}
	// {"organization_id":"0199a000-0000-7000-8000-000000000001","organization_name":"Acme","plan":"pro","meter":"storage_bytes","unit":"byte","aggregation":"last","value":4096,"unit_seconds":"353894400"}
	// 2 rows, 372 bytes
}

func ExampleVerify() {
	var file bytes.Buffer
	w := documents.NewUsageWriter(&file, plans.Default().Meters)
	for _, total := range exampleTotals() {
		if err := w.Write(total); err != nil {
			panic(err)
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	period, err := calendar.ParsePeriod("2026-10")
	if err != nil {
		panic(err)
	}
	document, err := documents.EncodeManifest(billing.Manifest{
		Format: documents.ManifestFormat, Period: period, Cut: period.End(), Revision: 1, Program: "1.0.0",
		Watermark: []billing.BatchMark{{Instance: uuid.MustParse("0199a000-0000-7000-8000-0000000000ff"), Through: 42}},
		Files:     []billing.File{w.File(documents.UsageFile)},
		Totals:    w.Totals(),
	})
	if err != nil {
		panic(err)
	}
	fmt.Print(string(document))

	manifest, err := documents.ParseManifest(document)
	if err != nil {
		panic(err)
	}
	err = documents.Verify(manifest, func(string) (io.ReadCloser, error) { return io.NopCloser(&file), nil })
	fmt.Println("verified:", err == nil)
	// Output:
	// {
	//   "format": 2,
	//   "period": "2026-10",
	//   "cut": "2026-11-01T00:00:00Z",
	//   "provisional": false,
	//   "revision": 1,
	//   "program": "1.0.0",
	//   "watermark": [
	//     {
	//       "instance": "0199a000-0000-7000-8000-0000000000ff",
	//       "through": 42
	//     }
	//   ],
	//   "files": [
	//     {
	//       "name": "usage.jsonl",
	//       "sha256": "a874d4a65e3f7e89cdd43792cb4491a13301291115cab6fed86f1285ef496fe1",
	//       "bytes": 372,
	//       "rows": 2
	//     }
	//   ],
	//   "control_totals": [
	//     {
	//       "meter": "evaluations",
	//       "organizations": 1,
	//       "value": 1200
	//     },
	//     {
	//       "meter": "storage_bytes",
	//       "organizations": 1,
	//       "value": 4096
	//     }
	//   ]
	// }
	// verified: true
}
