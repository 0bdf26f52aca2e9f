package main

import (
	"bytes"
	"strings"
	"testing"
)

// said is what govulncheck said of Tollgate on 2026-11-28, in short.
const said = `
{"config": {"protocol_version": "v1.0.0"}}
{"osv": {"id": "GO-2026-5676", "summary": "HTTP/3 QPACK Trailer Expansion Memory Exhaustion"}}
{"finding": {"osv": "GO-2026-5676", "fixed_version": "v0.59.1", "trace": [{"module": "example.com/quic", "version": "v0.59.0"}]}}
{"finding": {"osv": "GO-2026-5676", "fixed_version": "v0.59.1", "trace": [{"module": "example.com/quic", "version": "v0.59.0", "package": "example.com/quic/http3"}]}}
{"finding": {"osv": "GO-2026-5676", "fixed_version": "v0.59.1", "trace": [
  {"module": "example.com/quic", "version": "v0.59.0", "package": "example.com/quic/http3", "function": "Error", "receiver": "*Err"},
  {"module": "example.com/own", "package": "example.com/own/api", "function": "Serve"}]}}
{"finding": {"osv": "GO-2026-6600", "fixed_version": "v1.26.9", "trace": [{"module": "stdlib", "version": "v1.26.8", "package": "html/template", "function": "Execute"}]}}
{"finding": {"osv": "GO-2026-6860", "trace": [{"module": "golang.org/x/net", "version": "v0.61.0"}]}}
`

func TestFailsOnWhatIsCalledOfAModule(t *testing.T) {
	found, err := read(strings.NewReader(said))
	if err != nil || len(found) != 3 {
		t.Fatalf("%d found, %v", len(found), err)
	}
	var listed bytes.Buffer
	err = report(&listed, found)
	want := "GO-2026-5676 called in example.com/quic@v0.59.0 (v0.59.1 mends it): HTTP/3 QPACK Trailer Expansion Memory Exhaustion\n" +
		"  by example.com/own/api.Serve\n  → example.com/quic/http3.Err.Error"
	if err == nil || err.Error() != want {
		t.Errorf("fails with %v", err)
	}
	if got := listed.String(); got != "GO-2026-6600 called in stdlib@v1.26.8 (v1.26.9 mends it): \n"+
		"GO-2026-6860 not imported in golang.org/x/net@v0.61.0 (no version mends it): \n" {
		t.Errorf("lists %s", got)
	}
}

func TestFailsOnWhatIsCutShort(t *testing.T) {
	if _, err := read(strings.NewReader(said[:len(said)-20])); err == nil {
		t.Error("what is cut short is read as if nothing were found")
	}
	if _, err := read(strings.NewReader("")); err == nil {
		t.Error("nothing is read as if nothing were found")
	}
}
