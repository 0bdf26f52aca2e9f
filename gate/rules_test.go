package gate_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/plans"
)

func TestDefaultRules(t *testing.T) {
	rules := gate.DefaultRules(plans.Default())
	require.NoError(t, rules.Check(plans.Default()))
	for _, tt := range []struct{ method, path, meter string }{
		{"POST", "/gateway/evaluate", "evaluations"},
		{"post", "/gateway/evaluate", "evaluations"},
		{"POST", "/gateway/evaluations/42/run", "evaluations"},
		{"POST", "/gateway//evaluate", "evaluations"},
		{"POST", "/gateway/x/../evaluate", "evaluations"},
		{"POST", "/gateway/evaluate/", "evaluations"},
		{"POST", "/gateway/flows/7/execute", "flow_executions"},
		{"POST", "/gateway/execute", "flow_executions"},
		{"POST", "/gateway/simulate", "simulations"},
		{"POST", "/gateway/simulations/7", "simulations"},
		{"GET", "/gateway/evaluate", ""},
		{"POST", "/gateway/other", ""},
		{"POST", "/gateway", ""},
		{"POST", "/evaluate", ""},
		{"POST", "/gateway/flows/7/8/execute", ""},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			charge, ok := rules.Classify(&http.Request{Method: tt.method, URL: &url.URL{Path: tt.path}})
			require.Equal(t, tt.meter != "", ok)
			require.Equal(t, tt.meter, charge.Meter)
			if ok {
				require.Equal(t, int64(1), charge.Quantity)
			}
		})
	}
}

func TestDefaultRulesFollowTheCatalog(t *testing.T) {
	catalog := &plans.Catalog{Meters: []plans.Meter{
		{Key: "simulations", Aggregation: plans.Sum}, {Key: "evaluations", Aggregation: plans.Max},
	}}
	rules := gate.DefaultRules(catalog)
	require.NoError(t, rules.Check(catalog))
	require.Len(t, rules.List(), 1)
	require.Equal(t, "simulations", rules.List()[0].Meter)
}

func TestPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern  string
		matches  []string
		declines []string
	}{
		{"/a", []string{"/a", "/a/"}, []string{"/", "/ab", "/a/b", "/A"}},
		{"/", []string{"/"}, []string{"/a"}},
		{"/*", []string{"/a", "/"}, []string{"/a/b"}},
		{"/**", []string{"/", "/a", "/a/b/c"}, nil},
		{"/a/**", []string{"/a", "/a/b", "/a/b/c"}, []string{"/ab", "/b/a"}},
		{"/a/*/c", []string{"/a/b/c"}, []string{"/a/c", "/a/b/b/c", "/a/b"}},
		{"/a*b*c", []string{"/abc", "/aXbYc", "/abbcc"}, []string{"/ab", "/abcd"}},
		{"/*.json", []string{"/x.json", "/.json", "/a.json.json"}, []string{"/x.jso", "/x.jsonl"}},
	} {
		rules, err := gate.NewRules([]gate.Rule{{Method: "*", Path: tt.pattern, Meter: "m"}})
		require.NoError(t, err)
		classify := func(at string) bool {
			_, ok := rules.Classify(&http.Request{Method: http.MethodPatch, URL: &url.URL{Path: at}})
			return ok
		}
		for _, at := range tt.matches {
			require.True(t, classify(at), "%s must match %s", tt.pattern, at)
		}
		for _, at := range tt.declines {
			require.False(t, classify(at), "%s must not match %s", tt.pattern, at)
		}
	}
}

func TestRulesFoldCaseWhereTheySaySo(t *testing.T) {
	rules, err := gate.ParseRules([]byte(`rules:
  - { method: POST, path: /Flows/*/Execut*/**, meter: a, fold_case: true }
  - { method: POST, path: /flows/exact, meter: b }`))
	require.NoError(t, err)
	for at, want := range map[string]string{
		"/flows/7/execute": "a", "/FLOWS/7/EXECUTE/X": "a", "/flow\u017f/7/execute": "a", "/Flows/7/execut": "a",
		"/flows/exact": "b", "/flows/EXACT": "", "/FLOWS/exact": "", "/flows/7/exec": "",
	} {
		charge, _ := rules.Classify(&http.Request{Method: http.MethodPost, URL: &url.URL{Path: at}})
		require.Equal(t, want, charge.Meter, at)
	}
	request := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/flows/7/execute"}}
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = rules.Classify(request) }))
}

// TestHeadIsAGet holds that a rule for GET knows a HEAD, which makes an upstream do the same.
func TestHeadIsAGet(t *testing.T) {
	rules, err := gate.NewRules([]gate.Rule{
		{Method: "HEAD", Path: "/free", Meter: "a"}, {Method: "get", Path: "/**", Meter: "b"}, {Method: "POST", Path: "/**", Meter: "c"},
	})
	require.NoError(t, err)
	for request, want := range map[string]string{
		"HEAD /x": "b", "head /x": "b", "GET /x": "b", "HEAD /free": "a", "GET /free": "b", "POST /x": "c", "OPTIONS /x": "",
	} {
		method, at, _ := strings.Cut(request, " ")
		charge, _ := rules.Classify(&http.Request{Method: method, URL: &url.URL{Path: at}})
		require.Equal(t, want, charge.Meter, request)
	}
}

func TestFirstRuleCounts(t *testing.T) {
	rules, err := gate.ParseRules([]byte(`{"rules": [
		{"method": "POST", "path": "/batch/**", "meter": "a", "quantity": 5},
		{"method": "*", "path": "/**", "meter": "b"}]}`))
	require.NoError(t, err, "JSON is YAML")
	charge, ok := rules.Classify(httptest.NewRequest(http.MethodPost, "/batch/1", nil))
	require.True(t, ok)
	require.Equal(t, gate.Charge{Meter: "a", Quantity: 5}, charge)
	charge, ok = rules.Classify(httptest.NewRequest(http.MethodGet, "/batch/1", nil))
	require.True(t, ok)
	require.Equal(t, gate.Charge{Meter: "b", Quantity: 1}, charge)
}

func TestBadRulesNameTheField(t *testing.T) {
	for _, tt := range []struct{ rule, message string }{
		{`{ method: "", path: /a, meter: m }`, `rules[0].method: "" must be an HTTP method or *`},
		{`{ method: "G T", path: /a, meter: m }`, `rules[0].method: "G T" must be`},
		{`{ method: GET, path: a, meter: m }`, `rules[0].path: "a" must start with a slash`},
		{`{ method: GET, path: "", meter: m }`, `rules[0].path: "" must start with a slash`},
		{`{ method: GET, path: /a/, meter: m }`, `rules[0].path: "/a/" must not end in a slash`},
		{`{ method: GET, path: /a/../b, meter: m }`, `rules[0].path: "/a/../b" must not`},
		{`{ method: GET, path: /a**, meter: m }`, `rules[0].path: "/a**" may have ** only`},
		{`{ method: GET, path: /**/a, meter: m }`, `rules[0].path: "/**/a" may have ** only`},
		{`{ method: GET, path: /a }`, `rules[0].meter: must be there`},
		{`{ method: GET, path: /a, meter: m, max_body_mib: -1 }`, `rules[0].max_body_mib: -1 must be 1 to 1048576`},
		{`{ method: GET, path: /a, meter: m, plan_body_mib: { free: 0 } }`, `rules[0].plan_body_mib.free: 0 must be 1 to 1048576`},
		{`{ method: GET, path: /a, meter: m, quantity: -1 }`, `rules[0].quantity: -1 must be 1 to`},
		{`{ method: GET, path: /a, meter: m, quantity: 1000000000000001 }`, `rules[0].quantity:`},
		{`{ method: GET, path: /a, meter: m, weight: 2 }`, `weight`},
		{`{ method: GET, path: /a, meter: m, quantity: lots }`, `quantity`},
	} {
		_, err := gate.ParseRules([]byte("rules:\n  - " + tt.rule))
		require.ErrorIs(t, err, gate.ErrInvalidRules, tt.rule)
		require.ErrorContains(t, err, tt.message, tt.rule)
	}
	_, err := gate.NewRules(make([]gate.Rule, gate.MaxRules+1))
	require.ErrorContains(t, err, "rules: must hold at most 1000")
	_, err = gate.ParseRules([]byte("rules: [{ path: a }, { method: GET, path: b, meter: m }]"))
	require.ErrorContains(t, err, "rules[0].method")
	require.ErrorContains(t, err, "rules[0].path")
	require.ErrorContains(t, err, "rules[1].path", "all broken rules are reported together")
}

func TestRulesAreCheckedAgainstTheCatalog(t *testing.T) {
	rules, err := gate.NewRules([]gate.Rule{
		{Method: "*", Path: "/a", Meter: "evaluations"},
		{Method: "*", Path: "/b", Meter: "nothing"},
		{Method: "*", Path: "/c", Meter: "storage_bytes"},
	})
	require.NoError(t, err)
	err = rules.Check(plans.Default())
	require.ErrorIs(t, err, gate.ErrInvalidRules)
	require.ErrorContains(t, err, `rules[1].meter: "nothing" is not a meter of the catalog`)
	require.ErrorContains(t, err, `rules[2].meter: "storage_bytes" is a last`)
	require.NotContains(t, err.Error(), "rules[0]")
}

// FuzzRules holds that no document makes the parser panic, that what it accepts is
// within the rules, and that what a pattern without stars says, it matches.
func FuzzRules(f *testing.F) {
	f.Add([]byte("rules: [{ method: GET, path: /a/*/b*/**, meter: m, quantity: 3 }]"), "/a/x/b/c")
	f.Add([]byte(`{"rules":[{"method":"*","path":"/","meter":"m"}]}`), "/")
	f.Add([]byte("rules: &a [*a]"), "/a")
	f.Add([]byte("- x"), "")
	f.Fuzz(func(t *testing.T, document []byte, at string) {
		rules, err := gate.ParseRules(document)
		if err != nil {
			require.ErrorIs(t, err, gate.ErrInvalidRules)
			return
		}
		for _, r := range rules.List() {
			require.NotEmpty(t, r.Meter)
			require.GreaterOrEqual(t, r.Quantity, int64(1))
			require.LessOrEqual(t, r.Quantity, int64(plans.MaxQuantity))
			require.Equal(t, path.Clean(r.Path), r.Path)
			if !strings.Contains(r.Path, "*") {
				charge, ok := rules.Classify(&http.Request{Method: r.Method, URL: &url.URL{Path: r.Path}})
				require.True(t, ok)
				require.NotEmpty(t, charge.Meter)
			}
		}
		_, _ = rules.Classify(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: at}})
	})
}
