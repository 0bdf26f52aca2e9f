package api

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// readItems is what a reader of items makes of a body.
type readItems struct {
	items []string
	err   string
}

func itemsBy(read func(func(raw []byte) error) error) (r readItems) {
	err := read(func(raw []byte) error {
		if len(r.items) == 50 {
			return errors.New("enough")
		}
		r.items = append(r.items, string(raw))
		return nil
	})
	if err != nil {
		r.err = err.Error()
	}
	return r
}

// requireSameItems holds that a body is read as a decoder of any JSON reads it, however it comes in.
func requireSameItems(t require.TestingT, body string, failure error) {
	reader := func(wrap func(io.Reader) io.Reader) io.Reader {
		if failure == nil {
			return wrap(strings.NewReader(body))
		}
		return wrap(io.MultiReader(strings.NewReader(body), iotest.ErrReader(failure)))
	}
	whole := func(r io.Reader) io.Reader { return r }
	want := itemsBy(func(item func([]byte) error) error { return decodeItems(reader(whole), 0, 0, item) })
	for _, wrap := range []func(io.Reader) io.Reader{whole, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		got := itemsBy(func(item func([]byte) error) error { return eachItem(reader(wrap), item) })
		require.Equal(t, want, got, "%.300q", body)
	}
}

// TestPlainItemsAreReadAsOthers holds the two readers of batches against each other.
func TestPlainItemsAreReadAsOthers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.StringOfN(rapid.SampledFrom([]rune(" \n\t\r")), 0, 3, -1)
		item := rapid.OneOf(
			rapid.Just(`{"meter":"evaluations","quantity":1}`), rapid.Just(`{"meter":"evaluations","quantity":1}`),
			rapid.Just(`{ "idempotency_key" : "a" , "meter" : "m" }`),
			rapid.SampledFrom([]string{
				`{"meter":"m","quantity":"1"}`, `{"meter":"\u00e9"}`, `{"quantity":1}`, `{}`, `{"meter":"m","meter":"n"}`, `1`, `null`, `[]`, `"x"`,
				`{"meter":"m",}`, `{"meter":m}`, `{"meter":"m"`, `{`, `"`, `-`, ``, "\x00", `]`, `,`, `{"meter":"m"}}`, `{"meter":"m","quantity":01}`,
			}),
		)
		body := rapid.SampledFrom([]string{"[", "[", "[", "", "{", "[["}).Draw(t, "begin")
		for i := range rapid.IntRange(0, 6).Draw(t, "items") {
			if i > 0 {
				body += rapid.SampledFrom([]string{",", ",", ",", ",", "", ",,", "]"}).Draw(t, "separator")
			}
			body += space.Draw(t, "before") + item.Draw(t, "item") + space.Draw(t, "after")
		}
		body += rapid.SampledFrom([]string{"]", "]", "]", "", "]]", "] x", "}", ",]"}).Draw(t, "end") + space.Draw(t, "last")
		var failure error
		if rapid.IntRange(0, 5).Draw(t, "fails") == 0 {
			failure = errors.New("cut")
		}
		requireSameItems(t, body, failure)
	})
}

// TestPlainItemsKeepToTheirBounds has items, white space and bodies about as large as they may be.
func TestPlainItemsKeepToTheirBounds(t *testing.T) {
	t.Parallel()
	const plain = `{"meter":"evaluations","quantity":1}`
	for _, length := range []int{maxItem - 40, maxItem - 2, maxItem - 1, maxItem, maxItem + 1, maxItem + 40, 2 * maxItem} {
		spaces := strings.Repeat(" ", length-len(plain))
		for _, body := range []string{
			"[" + spaces + plain + "]", "[" + plain + "," + spaces + plain + "," + plain + "]", "[" + plain + spaces + "]", "[" + plain + "]" + spaces,
			"[" + plain + "," + `{"meter":"` + strings.Repeat("m", length) + `"}` + "]", "[" + plain + "," + plain[:20],
		} {
			requireSameItems(t, body, nil)
		}
	}
	for _, n := range []int{maxItems - 1, maxItems, maxItems + 1} {
		body := "[" + strings.Repeat(plain+",", n-1) + plain + "]"
		count := 0
		err := eachItem(strings.NewReader(body), func(raw []byte) error {
			count++
			require.Equal(t, plain, string(raw))
			return nil
		})
		require.Equal(t, min(n, maxItems), count)
		require.Equal(t, n > maxItems, err != nil, "%v", err)
	}
}
