// Package demo is what `tollgate dev` adds to a Tollgate that is meant to be tried:
// an upstream that echoes, organizations on each plan, and a file with their keys.
package demo

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// echo is what the upstream answers: the request as it arrived.
type echo struct {
	Method       string `json:"method"`
	Path         string `json:"path"`
	Query        string `json:"query,omitempty"`
	Organization string `json:"organization,omitempty"`
	Body         string `json:"body,omitempty"`
}

const maxEchoBody = 1 << 20

// Echo answers every request with itself as JSON and status 200. A path that ends
// in /status/NNN is answered with that status (200 to 599), so that what isn't
// counted can be tried, too.
func Echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxEchoBody))
		if err != nil {
			http.Error(w, "the body could not be read", http.StatusBadRequest)
			return
		}
		status := http.StatusOK
		if _, wanted, found := strings.Cut(r.URL.Path, "/status/"); found {
			code, err := strconv.Atoi(wanted)
			if err != nil || code < 200 || code > 599 {
				http.Error(w, "a path that ends in /status/NNN needs 200 to 599", http.StatusBadRequest)
				return
			}
			status = code
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// A client that has gone away is not our error.
		_ = json.NewEncoder(w).Encode(echo{
			Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
			Organization: r.Header.Get("X-Tollgate-Organization"), Body: string(body),
		})
	})
}
