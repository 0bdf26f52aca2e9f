package plans_test

import (
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

func TestDefaultCatalog(t *testing.T) {
	c := plans.Default()
	require.Len(t, c.Meters, 5)
	require.Equal(t, []string{"free", "pro", "enterprise"}, []string{c.Plans[0].Key, c.Plans[1].Key, c.Plans[2].Key})

	limits := map[string][2]int64{ // free, pro
		"evaluations":      {1_000, 100_000},
		"flow_executions":  {100, 10_000},
		"simulations":      {50, 5_000},
		"entity_instances": {100, 10_000},
		"storage_bytes":    {1 << 30, 100 << 30},
	}
	free, _ := c.Plan("free")
	pro, _ := c.Plan("pro")
	enterprise, _ := c.Plan("enterprise")
	for _, m := range c.Meters {
		want := limits[m.Key]
		require.Equal(t, plans.Entitlement{Meter: m.Key, Mode: plans.Hard, Window: calendar.WindowDay, Max: want[0]}, free.Entitlement(m.Key))
		require.Equal(t, plans.Entitlement{Meter: m.Key, Mode: plans.Soft, Window: calendar.WindowDay, Max: want[1]}, pro.Entitlement(m.Key))
		require.Equal(t, plans.Entitlement{Meter: m.Key, Mode: plans.Unlimited, Window: calendar.WindowDay}, enterprise.Entitlement(m.Key))
	}
}

// TestDefaultsShareNothing holds that who changes the catalog that Default returns changes no other's.
func TestDefaultsShareNothing(t *testing.T) {
	seen := map[uintptr]string{}
	var kinds []string
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Slice, reflect.Map, reflect.Pointer:
			require.NotEqual(t, reflect.Map, v.Kind(), path)
			if v.IsNil() {
				return
			}
			at, known := seen[v.Pointer()]
			require.False(t, known, "%s is %s of the one before", path, at)
			seen[v.Pointer()] = path
			if v.Kind() == reflect.Pointer {
				walk(v.Elem(), path)
				return
			}
			kinds = append(kinds, v.Type().Elem().Name())
			for i := range v.Len() {
				walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[decimal.Decimal]() {
				return // It can't be changed.
			}
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		}
	}
	first, second := plans.Default(), plans.Default()
	walk(reflect.ValueOf(first), "Default")
	walk(reflect.ValueOf(second), "Default")
	require.Equal(t, first, second)
	for _, kind := range []string{"Meter", "Plan", "Entitlement", "PriceBook", "Price", "Tier"} {
		require.Contains(t, kinds, kind)
	}
}

func TestDecide(t *testing.T) {
	hard := plans.Entitlement{Mode: plans.Hard, Max: 10}
	soft := plans.Entitlement{Mode: plans.Soft, Max: 10}
	unlimited := plans.Entitlement{Mode: plans.Unlimited}
	for _, tc := range []struct {
		name                    string
		aggregation             plans.Aggregation
		entitlement             plans.Entitlement
		current, held, quantity int64
		want                    plans.Decision
	}{
		{"hard within", plans.Sum, hard, 9, 0, 1, plans.Decision{Allowed: true, Mode: plans.Hard, Current: 10, Max: 10}},
		{"hard beyond", plans.Sum, hard, 10, 0, 1, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: 10, Max: 10}},
		{"hard too much at once", plans.Sum, hard, 4, 0, 7, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: 4, Max: 10, Remaining: 6}},
		{"hard after a downgrade", plans.Sum, hard, 25, 0, 0, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: 25, Max: 10}},
		{"hard at the end of an int64", plans.Sum, hard, math.MaxInt64, 0, 5, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: math.MaxInt64, Max: 10}},
		{"hard beyond what is held", plans.Sum, hard, 4, 6, 1, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: 4, Held: 6, Max: 10}},
		{"hard beside what is held", plans.Sum, hard, 4, 3, 2, plans.Decision{Allowed: true, Mode: plans.Hard, Current: 6, Held: 3, Max: 10, Remaining: 1}},
		{"soft beyond what is held", plans.Sum, soft, 4, 6, 1, plans.Decision{Allowed: true, OverLimit: true, Mode: plans.Soft, Current: 5, Held: 6, Max: 10}},
		{"soft within", plans.Sum, soft, 0, 0, 10, plans.Decision{Allowed: true, Mode: plans.Soft, Current: 10, Max: 10}},
		{"soft beyond", plans.Sum, soft, 10, 0, 5, plans.Decision{Allowed: true, OverLimit: true, Mode: plans.Soft, Current: 15, Max: 10}},
		{"unlimited", plans.Sum, unlimited, 1e9, 0, 5, plans.Decision{Allowed: true, Mode: plans.Unlimited, Current: 1e9 + 5}},
		{"peak below the peak", plans.Max, hard, 8, 0, 3, plans.Decision{Allowed: true, Mode: plans.Hard, Current: 8, Max: 10, Remaining: 2}},
		{"peak at the limit", plans.Max, hard, 8, 0, 10, plans.Decision{Allowed: true, Mode: plans.Hard, Current: 10, Max: 10}},
		{"peak beyond", plans.Max, hard, 8, 0, 11, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: 8, Max: 10, Remaining: 2}},
		{"peak below a limit that was lowered under the peak", plans.Max, hard, 20, 0, 5, plans.Decision{Allowed: true, Mode: plans.Hard, Current: 20, Max: 10}},
		{"snapshot falls", plans.Last, hard, 9, 0, 2, plans.Decision{Allowed: true, Mode: plans.Hard, Current: 2, Max: 10, Remaining: 8}},
		{"snapshot beyond, soft", plans.Last, soft, 9, 0, 12, plans.Decision{Allowed: true, OverLimit: true, Mode: plans.Soft, Current: 12, Max: 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, plans.Decide(tc.aggregation, tc.entitlement, tc.current, tc.held, tc.quantity))
		})
	}
}

func TestDecideLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		aggregation := rapid.SampledFrom([]plans.Aggregation{plans.Sum, plans.Max, plans.Last}).Draw(t, "aggregation")
		mode := rapid.SampledFrom([]plans.Mode{plans.Hard, plans.Soft, plans.Unlimited}).Draw(t, "mode")
		limit := rapid.Int64Range(0, plans.MaxQuantity).Draw(t, "max")
		if mode == plans.Unlimited {
			limit = 0
		}
		current := rapid.Int64Range(0, math.MaxInt64).Draw(t, "current")
		held := int64(0)
		if aggregation == plans.Sum {
			held = rapid.Int64Range(0, math.MaxInt64).Draw(t, "held")
		}
		quantity := rapid.Int64Range(0, plans.MaxQuantity).Draw(t, "quantity")
		d := plans.Decide(aggregation, plans.Entitlement{Mode: mode, Max: limit}, current, held, quantity)

		require.GreaterOrEqual(t, d.Remaining, int64(0))
		if mode != plans.Hard {
			require.True(t, d.Allowed, "only a hard limit refuses")
		}
		if mode == plans.Hard {
			require.Equal(t, !d.OverLimit, d.Allowed, "a hard limit refuses just what is beyond it")
		}
		if mode == plans.Hard && d.Allowed && aggregation == plans.Sum {
			require.LessOrEqual(t, d.Current, limit-held)
			require.Equal(t, limit, d.Current+d.Held+d.Remaining)
		}
		if !d.Allowed {
			require.Equal(t, current, d.Current, "a refusal changes nothing")
		}
	})
}

func TestParseNamesEveryBrokenRule(t *testing.T) {
	_, err := plans.Parse([]byte(`
meters:
  - { key: calls, name: Calls, aggregation: sum, unit: call }
  - { key: calls, name: Again, aggregation: average, unit: call }
plans:
  - key: Free Plan
    version: 0
    name: Free
    rate_limit: { requests_per_second: 5, burst: 0 }
    entitlements:
      - { meter: calls, mode: hard, window: week, max: -1 }
      - { meter: calls, mode: unlimited, max: 4 }
      - { meter: other, mode: strict, window: day, max: 4 }
`))
	require.ErrorIs(t, err, plans.ErrInvalidCatalog)
	for _, want := range []string{
		`meters[1].key: "calls" is there twice`,
		`meters[1].aggregation: "average" must be sum, max or last`,
		`plans[0].key: "Free Plan" must match`,
		`plans[0].version: 0 must be 1 or more`,
		`plans[0].rate_limit.burst: 0 must be 1 or more`,
		`plans[0].entitlements[0].window: "week" must be day or month`,
		`plans[0].entitlements[0].max: -1 must be 0 to`,
		`plans[0].entitlements[1].meter: "calls" is there twice`,
		`plans[0].entitlements[1].max: 4 must be left out`,
		`plans[0].entitlements[2].meter: "other" is not a meter`,
		`plans[0].entitlements[2].mode: "strict" must be hard, soft or unlimited`,
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestParseRefusesUnknownFields(t *testing.T) {
	_, err := plans.Parse([]byte("meters:\n  - { key: calls, aggregation: sum, unit: call, colour: red }\n"))
	require.ErrorIs(t, err, plans.ErrInvalidCatalog)
	require.ErrorContains(t, err, "colour")
}

func TestOverlayAndInForce(t *testing.T) {
	base := plans.Default()
	free, _ := base.Plan("free")
	free.Version, free.Name = 2, "Free, second version"
	over := &plans.Catalog{
		Meters: []plans.Meter{{Key: "tokens", Name: "Tokens", Aggregation: plans.Sum, Unit: "token"}},
		Plans:  []plans.Plan{free},
	}
	merged := base.Overlay(over)
	require.NoError(t, merged.Validate())
	require.Len(t, merged.Meters, 6)
	require.Equal(t, "tokens", merged.Meters[5].Key, "meters that are there keep their place")
	got, ok := merged.Plan("free")
	require.True(t, ok)
	require.Equal(t, 2, got.Version, "the highest version is in force")
	require.Len(t, merged.InForce(), 3)
	require.Equal(t, plans.Entitlement{Meter: "tokens", Mode: plans.Unlimited, Window: calendar.WindowDay}, got.Entitlement("tokens"),
		"a meter that a plan doesn't name is counted and never refused")
	require.Len(t, base.Meters, 5, "the receiver is not changed")
	_, ok = merged.Plan("gold")
	require.False(t, ok)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("meters: []"))
	f.Add([]byte("meters: ! "))
	f.Add(priced("0.0002"))
	f.Add(priced("&a !!str 1e3"))
	f.Add([]byte("meters:\n  - { key: a, aggregation: sum }\nplans:\n  - { key: p, version: 1, entitlements: [{ meter: a, mode: hard, window: day, max: 1 }] }"))
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := plans.Parse(document)
		if err != nil {
			require.ErrorIs(t, err, plans.ErrInvalidCatalog)
			return
		}
		require.NoError(t, c.Validate())
		for _, p := range c.InForce() {
			require.NoError(t, c.ValidatePlan(p))
		}
	})
}
