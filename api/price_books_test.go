package api

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/plans"
)

// priced returns the body of a plan with price books.
func priced(books string) string {
	return `{"key":"team","name":"Team","entitlements":[],"price_books":` + books + `}`
}

// everyPrice has every field of a price book, in a plan that may be.
const everyPrice = `[{"currency":"USD","rounding":"half_up","base_fee":{"amount":"49","prorate":"day"},"discount_percent":"2.5","minimum":"60",
	"prices":[
		{"meter":"evaluations","model":"graduated","included":1000,"per":10,"prorate":"day","minimum":"1.25","discount_percent":"10",
			"tiers":[{"up_to":100000,"unit_price":"0.000000000001"},{"unit_price":"0.00015","flat_fee":"3"}]},
		{"meter":"flow_executions","model":"per_unit","unit_price":"999999999999.99"},
		{"meter":"simulations","model":"package","package_size":100,"package_price":"1.5"},
		{"meter":"entity_instances","model":"flat","flat_fee":"20"},
		{"meter":"storage_bytes","model":"volume","basis":"level","per":1073741824,"tiers":[{"unit_price":"0"}]}]},
	{"currency":"JPY"}]`

func TestPricesArePublishedAndRead(t *testing.T) {
	r := newRig(t)
	put := r.do("admin", "PUT", "/api/v1/plans", priced(everyPrice))
	require.Equal(t, http.StatusOK, put.Code, put.Body)
	answered, err := json.Marshal(put.json()["price_books"])
	require.NoError(t, err)
	require.JSONEq(t, everyPrice, string(answered), "amounts stay as they are, as strings")
	stored, ok := r.store.catalog.Plan("team")
	require.True(t, ok)
	require.Equal(t, "0.000000000001", stored.PriceBooks[0].Prices[0].Tiers[0].UnitPrice.String())

	var read []any
	for _, p := range r.do("finance", "GET", "/api/v1/plans", "").json()["plans"].([]any) {
		if p := p.(map[string]any); p["key"] == "team" {
			read = append(read, p)
		}
	}
	require.Equal(t, []any{put.json()}, read)
}

// TestPricesChangeWhenTheyAreGiven holds what makes a new version, and that a change of
// limits never changes a price.
func TestPricesChangeWhenTheyAreGiven(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		name, body string
		version    int
		books      int
	}{
		{"without prices", `{"key":"team","name":"Team","entitlements":[]}`, 1, 0},
		{"prices alone are a change", priced(`[{"currency":"USD","base_fee":{"amount":"1.50"}}]`), 2, 1},
		{"the same in other digits is not", priced(`[{"currency":"USD","base_fee":{"amount":"1.5"}}]`), 2, 1},
		{"left out, they stay", `{"key":"team","name":"Team","entitlements":[]}`, 2, 1},
		{"also where something else changes", `{"key":"team","name":"Teams","entitlements":[]}`, 3, 1},
		{"an empty list takes them away", `{"key":"team","name":"Teams","entitlements":[],"price_books":[]}`, 4, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			put := r.do("admin", "PUT", "/api/v1/plans", tt.body)
			require.Equal(t, http.StatusOK, put.Code, put.Body)
			require.InDelta(t, tt.version, put.json()["version"], 0)
			require.Len(t, put.json()["price_books"], tt.books)
		})
	}
	pro, ok := plans.Default().Plan("pro")
	require.True(t, ok)
	require.NotEmpty(t, pro.PriceBooks)
	require.Equal(t, 200, r.do("admin", "PUT", "/api/v1/plans", `{"key":"pro","name":"Pro","entitlements":[]}`).Code)
	changed, _ := r.store.catalog.Plan("pro")
	require.Equal(t, pro.PriceBooks, changed.PriceBooks)
}

func TestPricesMustBeOfTheForm(t *testing.T) {
	r := newRig(t)
	price := func(fields string) string {
		return priced(`[{"currency":"USD","prices":[{"meter":"evaluations",` + fields + `}]}]`)
	}
	const at = "price_books[0].prices[0]"
	for _, tt := range []struct{ body, field, rule string }{
		{priced(`{}`), "price_books", "must be an array"},
		{priced(`[{"currency":"usd"}]`), "price_books[0].currency", "ISO 4217"},
		{priced(`[{}]`), "price_books[0].currency", "ISO 4217"},
		{priced(`[{"currency":"USD"},{"currency":"USD"}]`), "price_books[1].currency", "twice"},
		{priced(`[{"currency":"USD","rounding":"up"}]`), "price_books[0].rounding", "half_up or half_even"},
		{priced(`[{"currency":"USD","vat":"25"}]`), "price_books[0].vat", "is not a field"},
		{priced(`[{"currency":"USD","base_fee":{}}]`), "price_books[0].base_fee.amount", "decimal number"},
		{priced(`[{"currency":"USD","base_fee":{"amount":49.5}}]`), "price_books.base_fee.amount", "must be a string"},
		{priced(`[{"currency":"USD","base_fee":{"amount":"1","prorate":"week"}}]`), "price_books[0].base_fee.prorate", "day, second or none"},
		{priced(`[{"currency":"USD","minimum":"-1"}]`), "price_books[0].minimum", "0 to"},
		{priced(`[{"currency":"USD","minimum":"1e900000000"}]`), "price_books[0].minimum", "decimal number"},
		{priced(`[{"currency":"USD","minimum":"0.0000000000001"}]`), "price_books[0].minimum", "at most 12 decimals"},
		{priced(`[{"currency":"USD","discount_percent":"100.1"}]`), "price_books[0].discount_percent", "0 to 100"},
		{priced(`[{"currency":"USD","prices":[{"meter":"nothing","model":"flat","flat_fee":"1"}]}]`), at + ".meter", "not a meter"},
		{price(`"model":"free"`), at + ".model", "must be flat"},
		{price(`"model":"flat","unit_price":"1"`), at + ".unit_price", "left out"},
		{price(`"model":"per_unit","unit_price":"one"`), at + ".unit_price", "decimal number"},
		{price(`"model":"per_unit","per":-1`), at + ".per", "must be 1 to"},
		{price(`"model":"per_unit","per":1.5`), "price_books.prices.per", "whole number"},
		{price(`"model":"per_unit","basis":"level"`), at + ".basis", "snapshot"},
		{price(`"model":"per_unit","included":-1`), at + ".included", "must be 0 to"},
		{price(`"model":"graduated"`), at + ".tiers", "1 to 100 tiers"},
		{price(`"model":"volume","tiers":[{"up_to":5,"unit_price":"1"}]`), at + ".tiers[0].up_to", "last tier"},
		{price(`"model":"volume","tiers":[{"up_to":5}]`), at + ".tiers[0].unit_price", "decimal number"},
		{price(`"model":"volume","tiers":[{"unit_price":"1","flat_fee":" 1"}]`), at + ".tiers[0].flat_fee", "decimal number"},
		{price(`"model":"package","package_price":"1"`), at + ".package_size", "must be 1 to"},
	} {
		problem := r.problem(400, "invalid_request", "admin", "PUT", "/api/v1/plans", tt.body)
		require.Contains(t, problem["message"], tt.field, tt.body)
		require.Contains(t, problem["message"], tt.rule, tt.body)
		if field, ok := problem["field"]; ok {
			require.Equal(t, tt.field, field, tt.body)
		}
	}
	_, ok := r.store.catalog.Plan("team")
	require.False(t, ok, "nothing was published")
	for range 2 {
		put := r.do("admin", "PUT", "/api/v1/plans", priced(everyPrice), "Idempotency-Key", "k")
		require.Equal(t, http.StatusOK, put.Code)
		require.Contains(t, put.Body.String(), `"0.000000000001"`)
	}
}

// Several plans are published together, or none: the answer names the one that is refused.
func TestPlansArePublishedTogether(t *testing.T) {
	r := newRig(t)
	const path, club = "/api/v1/plans", `{"key":"club","name":"Club","entitlements":[]}`
	both := func(second string) string { return `{"plans":[` + club + `,` + second + `]}` }
	before := r.store.catalog
	for _, tt := range []struct{ body, field, says string }{
		{both(priced(`[{"currency":"USD","minimum":"x"}]`)), "plans[1].price_books[0].minimum", "decimal number"},
		{both(priced(`[{"currency":"USD","minimum":"-1"}]`)), "", "plans[1].price_books[0].minimum: -1 must be 0 to"},
		{both(`{"key":"team","name":"","entitlements":[]}`), "plans[1].name", "1 to 200"},
		{both(`{"key":"team","name":"Team","entitlements":[{"meter":"clicks","mode":"unlimited"}]}`), "", "plans[1].entitlements[0].meter"},
		{both(club), "", "plans[1]: club version 1 is there twice"},
		{`{"plans":[]}`, "", "must hold 1 or more"},
		{`{}`, "", "must hold 1 or more"},
	} {
		problem := r.problem(400, "invalid_request", "admin", "POST", path, tt.body)
		require.Contains(t, problem["message"], tt.says)
		if tt.field != "" {
			require.Equal(t, tt.field, problem["field"])
		}
		require.Same(t, before, r.store.catalog, "nothing was published")
	}
	r.problem(403, "forbidden", "finance", "POST", path, both(priced(everyPrice)))
	for range 2 {
		put := r.do("admin", "POST", path, both(priced(everyPrice)))
		require.Equal(t, http.StatusOK, put.Code, put.Body)
		published := put.json()["plans"].([]any)
		require.Len(t, published, 2)
		for i, key := range []string{"club", "team"} {
			one := published[i].(map[string]any)
			require.Equal(t, key, one["key"])
			require.InDelta(t, 1, one["version"], 0, "what is in force already makes no version")
		}
	}
	put := r.do("admin", "POST", path, both(`{"key":"team","name":"Teams","entitlements":[]}`))
	require.InDelta(t, 1, put.json()["plans"].([]any)[0].(map[string]any)["version"], 0)
	require.InDelta(t, 2, put.json()["plans"].([]any)[1].(map[string]any)["version"], 0)
	require.Len(t, put.json()["plans"].([]any)[1].(map[string]any)["price_books"], 2, "prices stay")
}
