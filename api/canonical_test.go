package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCanonicalObject(t *testing.T) {
	for _, same := range [][]string{
		{`{}`, ` { } `},
		{`{"a":1,"b":[1,2]}`, `{"b":[1.0,20e-1],"a":1e0}`, `{ "b" : [ 0.1e1 , 2 ] , "a" : 100E-2 }`},
		{`{"a":"é/<"}`, `{"a":"\u00e9\/\u003c"}`},
		{`{"a":{"x":0,"y":-1.5}}`, `{"a":{"y":-15e-1,"x":-0.0}}`},
		{`{"a":1e400}`, `{"a":10e399}`},
		{`{"a":123456789012345678901234567890}`, `{"a":123456789012345678901234567890.0}`},
	} {
		for _, text := range same[1:] {
			require.Equal(t, string(canonicalObject([]byte(same[0]))), string(canonicalObject([]byte(text))), text)
		}
	}
	for _, pair := range [][2]string{
		{`{"a":1}`, `{"a":"1"}`},
		{`{"a":[1,2]}`, `{"a":[2,1]}`},
		{`{"a":null}`, `{}`},
		{`{"a":1}`, `{"a":-1}`},
		{`{"a":1}`, `{"a":10}`},
		{`{"a":9007199254740992}`, `{"a":9007199254740993}`},
		{`{"a":true}`, `{"a":1}`},
		{`{"a":1e99999999999}`, `{"a":1}`},
	} {
		require.NotEqual(t, string(canonicalObject([]byte(pair[0]))), string(canonicalObject([]byte(pair[1]))), pair[0])
	}
	require.Equal(t, `{"b":2}`, string(canonicalObject([]byte(`{"a":1,"b":2,"c":3}`), "a", "c")))
}

func TestCanonicalBody(t *testing.T) {
	for _, one := range [][]string{
		{`{"plan":"pro","effective_at":"2026-12-28T10:00:00Z"}`, `{"effective_at":"2026-12-28t12:00:00.000+02:00", "plan":"pro"}`},
		{`{"quantity":3}`, `{"quantity":"3"}`, `{"quantity":3e0}`, "\n{\"quantity\":3.0}"},
		{`{"note":"3.0"}`},
		{`{"note":"3"}`},
		{`{"note":3}`, `{"note":3.0}`},
		{`{"quantity":"x"}`},
		{`{"effective_at":"soon"}`},
		{`{"effective_at":1}`},
		{`{"effective_at":null}`},
		{`{}`},
		{``},
		{`null`},
		{`[3]`},
		{`{"quantity":3}{}`},
		{`{"quantity":3} x`},
	} {
		for _, same := range one {
			require.Equal(t, string(canonicalBody([]byte(one[0]))), string(canonicalBody([]byte(same))), same)
		}
	}
	require.NotEqual(t, canonicalBody([]byte(`{"note":"3"}`)), canonicalBody([]byte(`{"note":3}`)))
	require.Equal(t, `{"quantity":3} x`, string(canonicalBody([]byte(`{"quantity":3} x`))), "what isn't JSON stays")
}
