package api

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Headers of requests that may be sent again
// (draft-ietf-httpapi-idempotency-key-header-07).
const (
	headerIdempotencyKey      = "Idempotency-Key"
	headerIdempotencyReplayed = "Idempotency-Replayed"
)

const maxKey = 255

// checkKey checks an idempotency key.
func checkKey(field, key string) error {
	n := utf8.RuneCountInString(key)
	if n < 1 || n > maxKey || !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid(field, "must be 1 to %d printable characters", maxKey)
	}
	return checkText(field, key)
}

// checkText refuses a text in which something is not a character. JSON readers put U+FFFD in
// its place, so that texts that differ there alone are taken for the same.
func checkText(field, text string) error {
	if strings.ContainsRune(text, utf8.RuneError) {
		return invalid(field, "must be Unicode: no broken UTF-8, no half of a surrogate pair, and no U+FFFD, which stands for them")
	}
	return nil
}

// headerKey returns the request's Idempotency-Key; empty where it bears none. The draft
// has the key in quotes; clients that send it without mean the same.
func headerKey(h http.Header) (string, error) {
	values := h[headerIdempotencyKey]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", invalid(headerIdempotencyKey, "must not be given twice")
	}
	key, ok := unquoteKey(values[0])
	if !ok {
		return "", invalid(headerIdempotencyKey, "must end with the quote that it begins with, and have a backslash only before a quote or another one")
	}
	if err := checkKey(headerIdempotencyKey, key); err != nil {
		return "", err
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "", invalid(headerIdempotencyKey, "must be 1 to %d printable ASCII characters", maxKey)
	}
	return key, nil
}

// unquoteKey reads a key in quotes (RFC 9651, section 3.3.3), whose parameters mean nothing
// here, or one without.
func unquoteKey(value string) (key string, ok bool) {
	rest, quoted := strings.CutPrefix(value, `"`)
	if !quoted {
		return value, true
	}
	var out strings.Builder
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			return out.String(), i+1 == len(rest) || rest[i+1] == ';'
		case c == '\\' && (i+1 == len(rest) || rest[i+1] != '"' && rest[i+1] != '\\'):
			return "", false
		case c == '\\':
			i++
		}
		_ = out.WriteByte(rest[i])
	}
	return "", false
}

// requestKey returns the key that a request bears in its header, in the field
// idempotency_key of its body, or alike in both.
func requestKey(h http.Header, inBody string) (string, error) {
	key, err := headerKey(h)
	switch {
	case err != nil:
		return "", err
	case key == "":
		return inBody, nil
	case inBody != "" && inBody != key:
		return "", invalid("idempotency_key", "must be the same as the header %s where both are given", headerIdempotencyKey)
	default:
		return key, nil
	}
}
