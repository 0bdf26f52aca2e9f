package api

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// packers have a writer for each way that a body may be packed in.
var packers = map[string]func(io.Writer) io.WriteCloser{
	"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	"zlib": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	"flate": func(w io.Writer) io.WriteCloser {
		f, _ := flate.NewWriter(w, flate.BestCompression)
		return f
	},
	"zstd": func(w io.Writer) io.WriteCloser {
		z, _ := zstd.NewWriter(w)
		return z
	},
}

// mebibyte is blank.
var mebibyte = strings.Repeat(" ", 1<<20)

// bomb is the begin of a list and so many MiB of nothing, packed in some ways, one over the other. What
// one MiB is packed to is repeated, so that packing takes little: gzip and zstd go on after an end, in
// flate and zlib each part ends on a byte.
func bomb(t testing.TB, mebibytes int, with ...string) string {
	t.Helper()
	var out bytes.Buffer
	switch inner := with[0]; inner {
	case "gzip", "zstd":
		out.WriteString(packed(t, "[", inner))
		out.WriteString(strings.Repeat(packed(t, mebibyte, inner), mebibytes))
	default:
		w := packers[inner](&out).(interface {
			io.WriteCloser
			Flush() error
		})
		part := 0
		for _, text := range []string{"[", mebibyte} {
			part = out.Len()
			_, err := io.WriteString(w, text)
			require.NoError(t, err)
			require.NoError(t, w.Flush())
		}
		out.WriteString(strings.Repeat(out.String()[part:], mebibytes-1))
	}
	return packed(t, out.String(), with[1:]...)
}

// packed packs a text in some ways, one after the other.
func packed(t testing.TB, text string, with ...string) string {
	t.Helper()
	for _, one := range with {
		var out bytes.Buffer
		w := packers[one](&out)
		_, err := io.WriteString(w, text)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		text = out.String()
	}
	return text
}

func TestPackedBodies(t *testing.T) {
	r := newRig(t)
	const one = `{"meter":"evaluations","quantity":2}`
	want := 0
	for _, tt := range []struct {
		header string
		with   []string
	}{
		{"gzip", []string{"gzip"}},
		{"GZip", []string{"gzip"}},
		{"x-gzip", []string{"gzip"}},
		{"deflate", []string{"zlib"}},
		{"deflate", []string{"flate"}},
		{"zstd", []string{"zstd"}},
		{"identity", nil},
		{"identity, gzip ,", []string{"gzip"}},
		{"gzip, zstd", []string{"gzip", "zstd"}},
		{"deflate,gzip,zstd", []string{"zlib", "gzip", "zstd"}},
	} {
		a := r.do("free", "POST", "/api/v1/usage", packed(t, one, tt.with...), "Content-Encoding", tt.header)
		require.Equal(t, 200, a.Code, "%s: %s", tt.header, a.Body)
		require.Equal(t, "accepted accepted", statuses(r.batch("free", packed(t, "["+one+","+one+"]", tt.with...), "Content-Encoding", tt.header)), tt.header)
		want += 6
		name := r.do("admin", "PATCH", "/api/v1/organizations/"+r.organizations["free"].String(), packed(t, `{"name":"Free"}`, tt.with...), "Content-Encoding", tt.header)
		require.Equal(t, 200, name.Code, "every route takes it: %s", name.Body)
	}
	require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "", "Content-Encoding", "gzip").Code, "no body has no encoding")
	require.InDelta(t, want, r.current("free", "evaluations"), 0)
}

// TestBombs holds that the bombs of the next test are what they are said to be.
func TestBombs(t *testing.T) {
	for encoding, with := range map[string]string{"gzip": "gzip", "deflate": "zlib", "x": "flate", "zstd": "zstd"} {
		if encoding == "x" {
			encoding = "deflate"
		}
		u := &unpacker{from: strings.NewReader(bomb(t, 3, with)), encoding: encoding, left: 4 << 20, limit: 4 << 20}
		out, err := io.ReadAll(u)
		u.close()
		if encoding == "deflate" {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "it has no end")
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, "["+strings.Repeat(mebibyte, 3), string(out), with)
	}
}

func TestPackedBodiesThatAreRefused(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxBatchBytes = 2 << 20 })
	const path, one = "/api/v1/usage/batch", `[{"meter":"evaluations"}]`
	for _, header := range []string{"br", "gzip, br", "compress", "gzip;q=1", "aws-chunked", "gzip, gzip, gzip, gzip"} {
		a := r.do("free", "POST", path, one, "Content-Encoding", header)
		require.Equal(t, http.StatusUnsupportedMediaType, a.Code, header)
		require.Equal(t, "gzip, deflate, zstd", a.Header().Get("Accept-Encoding"), header)
		require.Equal(t, "unsupported_media_type", a.json()["error"])
	}
	require.Empty(t, r.do("free", "POST", path, one, "Content-Type", "text/xml").Header().Get("Accept-Encoding"))
	for _, tt := range []struct{ header, body string }{
		{"gzip", one},
		{"gzip", packed(t, one, "gzip")[:20]},
		{"gzip", packed(t, one, "gzip") + "x"},
		{"gzip", packed(t, one, "zstd")},
		{"deflate", packed(t, one, "zlib")[:12]},
		{"deflate", packed(t, one, "flate") + one},
		{"zstd", packed(t, one, "zstd")[:12]},
		{"zstd", packed(t, one, "zstd") + "garbage"},
		{"gzip, zstd", packed(t, one, "zstd", "gzip")},
	} {
		for _, p := range []string{path, "/api/v1/usage"} {
			problem := r.problem(400, "invalid_request", "free", "POST", p, tt.body, "Content-Encoding", tt.header)
			require.Equal(t, "Content-Encoding", problem["field"], "%s: %v", tt.header, problem)
			require.Contains(t, problem["message"], "it is no whole")
		}
	}
	r.problem(400, "invalid_request", "free", "POST", path, one, "Content-Encoding", "deflate")
	// It is whole, and wants more memory than is given.
	for _, window := range []string{"\x28\xb5\x2f\xfd\x00\x88", "\x28\xb5\x2f\xfd\x00\xff"} {
		problem := r.problem(400, "invalid_request", "free", "POST", path, window+"\x01\x00\x00", "Content-Encoding", "zstd")
		require.Equal(t, "Content-Encoding must be zstd with a window of at most 8388608 bytes (RFC 9659)", problem["message"])
	}
	// A bomb of 64 MiB in a few KiB, one in another, and one that has no end and nothing in it.
	for _, with := range [][]string{{"gzip"}, {"zlib"}, {"flate"}, {"zstd"}, {"gzip", "gzip"}, {"zstd", "gzip"}} {
		header := strings.NewReplacer("zlib", "deflate", "flate", "deflate").Replace(strings.Join(with, ","))
		header = strings.ReplaceAll(header, "dedeflate", "deflate")
		body := bomb(t, 64, with...)
		require.Less(t, len(body), 1<<20)
		r.problem(413, "body_too_large", "free", "POST", path, body, "Content-Encoding", header)
		r.problem(413, "body_too_large", "free", "POST", "/api/v1/usage", body, "Content-Encoding", header)
	}
	nothing := strings.Repeat("\x00\x00\x00\xff\xff", 1<<20)
	r.problem(413, "body_too_large", "free", "POST", path, nothing, "Content-Encoding", "deflate")
	require.Zero(t, r.current("free", "evaluations"), "nothing was counted")
}

// FuzzUnpack holds that no body makes a reader panic or go on without an end, and that what is
// packed is unpacked.
func FuzzUnpack(f *testing.F) {
	for name := range packers {
		f.Add(name, []byte(packed(f, `{"meter":"evaluations"}`, name)))
	}
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		read := func(encoding string, from []byte) ([]byte, error) {
			u := &unpacker{from: bytes.NewReader(from), encoding: encoding, left: 1 << 16, limit: 1 << 16}
			defer u.close()
			return io.ReadAll(u)
		}
		for encoding := range unpackers {
			out, err := read(encoding, body)
			require.LessOrEqual(t, len(out), 1<<16)
			if err != nil {
				require.Error(t, unreadable(err), "%v", err)
			}
		}
		if packers[name] == nil || len(body) == 0 || len(body) >= 1<<16 {
			return
		}
		encoding := map[string]string{"zlib": "deflate", "flate": "deflate"}[name]
		if encoding == "" {
			encoding = name
		}
		out, err := read(encoding, []byte(packed(t, string(body), name)))
		require.NoError(t, err)
		require.Equal(t, body, out)
	})
}
