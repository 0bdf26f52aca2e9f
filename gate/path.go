package gate

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// OneReading is middleware that refuses, with 400, a path that two programs could read in two
// ways: what the rules classify is then what an upstream serves. [Proxy.Serve] refuses the same;
// before a gate, it keeps such a request from being classified at all.
func OneReading(c *gin.Context) {
	if found := ambiguity(c.Request.URL); found != "" {
		NewProblem(http.StatusBadRequest, CodeInvalidPath,
			"The path has "+found+": programs differ in how they read it. Nothing was counted.").Abort(c)
	}
}

// ambiguity says what in a path programs read differently; empty: nothing. A path is judged as
// it came and as it is decoded once.
func ambiguity(u *url.URL) string {
	raw := u.RawPath
	for i := 0; i+2 < len(raw); i++ {
		if raw[i] == '%' && raw[i+1] == '2' && raw[i+2]|0x20 == 'f' {
			return "an encoded slash"
		}
	}
	switch {
	case strings.IndexByte(raw, '#') >= 0:
		// Some cut a path there, some encode it.
		return "a # that is not encoded"
	case !utf8.ValidString(u.Path):
		// Old decoders make dots and slashes from bytes that are too many (RFC 3629, section 10).
		return "bytes that are no UTF-8"
	default:
		return ambiguousText(strings.TrimPrefix(u.Path, "/"))
	}
}

// ambiguousText is [ambiguity] of a path that is decoded, without its first slash.
func ambiguousText(text string) string {
	// A segment is hollow while it has nothing but what some programs resolve or strip.
	empty, hollow := true, true
	for i, r := range text {
		if r == '/' {
			if hollow {
				return hollowSegment(empty)
			}
			empty, hollow = true, true
			continue
		}
		empty = false
		switch seen := plain(r); {
		case seen == '/':
			return "a character that may be taken for a slash"
		case seen == '\\':
			return "a backslash"
		case seen == ';':
			return "a semicolon"
		case seen == '%' && (r != '%' || isEncoded(text[i+1:])):
			return "something that is encoded twice"
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return "a control character"
		case seen == '.', unicode.IsSpace(r), isInvisible(r):
		default:
			hollow = false
		}
	}
	if hollow && !empty {
		return hollowSegment(false)
	}
	return ""
}

func hollowSegment(empty bool) string {
	if empty {
		return "an empty segment"
	}
	return "a segment of dots or blanks"
}

// isEncoded reports whether what follows a percent sign would be decoded once more: two
// hexadecimal digits, or the u of an old kind with four.
func isEncoded(rest string) bool {
	n := 2
	if rest != "" && rest[0]|0x20 == 'u' {
		rest, n = rest[1:], 4
	}
	if len(rest) < n {
		return false
	}
	for i := range n {
		if c := rest[i] | 0x20; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// plain returns the character that a path is read by, for those that Unicode's compatibility
// forms (NFKC) or a best fit to fewer characters turn into one; any other is itself.
func plain(r rune) rune {
	if r < utf8.RuneSelf {
		return r
	}
	switch r {
	case '\u2024', '\u2025', '\u2026', '\ufe19', '\ufe30', '\ufe52', '\uff0e', '\uff61', '\u3002':
		return '.'
	case '\u2044', '\u2215', '\u29f8', '\uff0f', '\u2100', '\u2101', '\u2105', '\u2106':
		return '/'
	case '\u2216', '\u29f5', '\u29f9', '\ufe68', '\uff3c':
		return '\\'
	case '\u037e', '\ufe14', '\ufe54', '\uff1b':
		return ';'
	case '\ufe6a', '\uff05':
		return '%'
	default:
		return r
	}
}

// isInvisible reports whether a character shows nothing, so that some programs drop it.
func isInvisible(r rune) bool {
	return r >= utf8.RuneSelf && (unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Variation_Selector, r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r))
}
