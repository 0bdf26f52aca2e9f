package gate_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
)

// readTwice has paths that two programs read in two ways, under the words that the refusal has.
var readTwice = map[string][]string{
	"an empty segment": {"//evaluate", "/x//evaluate", "/evaluate//"},
	"a segment of dots or blanks": {
		"/./evaluate", "/../admin", "/x/..", "/x/.", "/%2e%2e/admin", "/.%2E/admin", "/%2e/evaluate", "/.../evaluate", "/..%20/admin", "/%20/evaluate",
		"/%E3%80%82./admin", "/%EF%BC%8E%EF%BC%8E/admin", "/%E2%80%A5/admin", "/.%E2%80%8B./admin", "/%EF%BB%BF/evaluate", "/.%C2%AD./admin",
		"/.%C2%A0./admin", "/%EF%B8%8F/evaluate",
	},
	"an encoded slash":                          {"/a%2Fb", "/a%2fb", "/..%2fadmin", "/%2f", "/a%252fb%2f"},
	"a character that may be taken for a slash": {"/a%EF%BC%8Fb", "/..%E2%88%95admin", "/%E2%84%80dmin", "/a\xe2\x81\x84b"},
	"a backslash":                               {"/a%5Cb", "/a%5cb", `/a\b`, `/..\admin`, "/a%EF%BC%BCb", "/a%EF%B9%A8b"},
	"a semicolon":                               {"/;/evaluate", "/x/..;/evaluate", "/x/..;foo=bar/evaluate", "/evaluate;v=1", "/%3b/evaluate", "/.%3B/evaluate", "/%CD%BE/evaluate", "/..%EF%BC%9B/admin"},
	"something that is encoded twice": {
		"/%252e%252e/admin", "/a%252Fb", "/%2565valuate", "/%25252e%25252e/admin", "/%25%32%65/admin", "/%25u002e%25u002e/admin", "/%25U2215x",
		"/%EF%BC%85x",
	},
	"a control character":     {"/a%00b", "/a%0Ab", "/a%0d%0aX:%20y", "/%09/evaluate", "/a%7Fb", "/a%C2%85b", "/a%E2%80%A8b"},
	"a # that is not encoded": {"/evaluate#/../admin", "/#", "/a#b"},
	"bytes that are no UTF-8": {"/%c0%ae%c0%ae/admin", "/..%c0%afadmin", "/%e0%80%ae/admin", "/a%ffb", "/%ed%a0%80", "/a\xffb"},
}

// readOnce has paths that everybody reads alike.
var readOnce = []string{
	"", "/", "/evaluate", "/evaluate/", "/a%20b/c", "/a.b/..c/c../.d", "/100%25", "/50%25off", "/a%25zz", "/r%C3%A9sum%C3%A9", "/%E6%97%A5%E6%9C%AC",
	"/a:b@c!$&'()*+,=~d", "/C%23", "/what%3F", "/%65valuate", "/wait%E2%80%A6", "/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB", "/v1.2.3",
}

func TestProxyRefusesPathsOfTwoReadings(t *testing.T) {
	asked := make(chan string, 1)
	r := newProxyRig(t, "hard", func(w http.ResponseWriter, request *http.Request) {
		asked <- request.URL.EscapedPath()
		w.WriteHeader(http.StatusNoContent)
	}, nil)
	for words, paths := range readTwice {
		for _, at := range paths {
			status, problem := r.raw(t, "POST /gateway"+at+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			require.Equal(t, http.StatusBadRequest, status, at)
			require.Equal(t, "invalid_path", problem["error"], at)
			require.Contains(t, problem["message"], "The path has "+words+":", at)
		}
	}
	require.Empty(t, asked, "the upstream must not be asked")
	r.requireUsage(0, 0)
	for i, at := range readOnce[:2] {
		status, _ := r.raw(t, "POST /gateway"+at+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		require.Equal(t, http.StatusNoContent, status, at)
		require.Equal(t, path.Clean("/base/"+at), path.Clean(<-asked))
		r.requireUsage(int64(i+1), 0)
	}
}

// raw sends a request as it is written.
func (r *rig) raw(t *testing.T, request string) (status int, problem map[string]any) {
	t.Helper()
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = fmt.Fprint(conn, request)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	if response.StatusCode >= http.StatusBadRequest {
		require.NoError(t, json.NewDecoder(response.Body).Decode(&problem), request)
	}
	return response.StatusCode, problem
}

// refused says whether a path is, and by which words.
func refused(u *url.URL) (bool, string) {
	recorder := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(recorder)
	c.Request = &http.Request{Method: http.MethodPost, URL: u, Header: http.Header{}}
	gate.OneReading(c)
	return c.IsAborted(), recorder.Body.String()
}

func TestPathsOfOneReading(t *testing.T) {
	for _, at := range readOnce {
		u, err := url.ParseRequestURI("/gateway" + at)
		require.NoError(t, err)
		no, why := refused(u)
		require.False(t, no, "%s: %s", at, why)
		c := &gin.Context{Request: &http.Request{URL: u}}
		require.Zero(t, testing.AllocsPerRun(10, func() { gate.OneReading(c) }), at)
	}
}

// FuzzPath holds what is meant by one reading: of a path that passes, every program that decodes
// it once or twice, cuts parameters, resolves dots, merges slashes, turns backslashes, or drops
// what it doesn't show, sees the same segments, and none that leaves the upstream's base path.
func FuzzPath(f *testing.F) {
	for _, paths := range readTwice {
		for _, at := range paths {
			f.Add(at)
		}
	}
	for _, at := range readOnce {
		f.Add(at)
	}
	f.Fuzz(func(t *testing.T, at string) {
		u, err := url.ParseRequestURI("/gateway" + at)
		if err != nil {
			return
		}
		if no, _ := refused(u); no {
			return
		}
		once := u.Path
		require.Equal(t, once, strings.ToValidUTF8(once, "?"))
		trailing := strings.TrimSuffix(once, "/")
		readings := map[string]string{
			"resolves":   path.Clean(once),
			"parameters": parameter(once),
			"backslash":  strings.ReplaceAll(once, `\`, "/"),
			"controls":   strings.TrimFunc(once, unicode.IsControl),
		}
		if twice, err := url.PathUnescape(once); err == nil {
			readings["twice"] = twice
		}
		for how, reading := range readings {
			require.Equal(t, trailing, strings.TrimSuffix(reading, "/"), how)
		}
		// What is sent on is read as what was classified.
		sent, err := url.ParseRequestURI(u.EscapedPath())
		require.NoError(t, err)
		require.Equal(t, once, sent.Path)
		require.NotContains(t, strings.ToLower(u.EscapedPath()), "%2f")
		for segment := range strings.SplitSeq(trailing, "/") {
			shown := strings.Map(func(r rune) rune {
				if unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) {
					return -1
				}
				return r
			}, segment)
			require.False(t, segment != "" && strings.Trim(shown, ".") == "", "%q", segment)
		}
	})
}

// parameter cuts what follows a semicolon from each segment, as servlets do.
func parameter(at string) string {
	segments := strings.Split(at, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}
