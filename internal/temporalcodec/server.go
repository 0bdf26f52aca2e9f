package temporalcodec

import (
	"net/http"

	"go.temporal.io/sdk/converter"
)

// Handler is a codec server, by which Temporal's UI at an origin (scheme://host:port) and its command
// line show what is encrypted. Whoever reaches it reads everything: it asks nobody who they are. Pages
// of other origins are refused.
func (c *Codec) Handler(origin string) http.Handler {
	codec := converter.NewPayloadCodecHTTPHandler(c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("Origin"); from != "" {
			if from != origin {
				http.Error(w, "this origin may not read here", http.StatusForbidden)
				return
			}
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace")
			w.Header().Set("Access-Control-Allow-Methods", "POST")
			w.Header().Set("Vary", "Origin")
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		codec.ServeHTTP(w, r)
	})
}
