package gate

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/riverline/tollgate/meter"
)

// settlingWriter settles a reservation when the final header goes out. Like every
// http.ResponseWriter it is for one goroutine at a time.
type settlingWriter struct {
	gin.ResponseWriter
	enforcer    *Enforcer
	reservation *meter.OpenReservation
	// decided says that the handler has set a status.
	decided bool
}

// Unwrap lets http.ResponseController reach what is below.
func (w *settlingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends an informational header on at once (gin would take it for the
// final status); any other status is kept until the header goes out.
func (w *settlingWriter) WriteHeader(status int) {
	if informational(status) {
		inform(w.ResponseWriter, status)
		return
	}
	w.decided = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *settlingWriter) WriteHeaderNow() {
	w.settle()
	w.ResponseWriter.WriteHeaderNow()
}

func (w *settlingWriter) Write(data []byte) (int, error) {
	w.settle()
	return w.ResponseWriter.Write(data)
}

func (w *settlingWriter) WriteString(s string) (int, error) {
	w.settle()
	return w.ResponseWriter.WriteString(s)
}

func (w *settlingWriter) Flush() {
	w.settle()
	w.ResponseWriter.Flush()
}

// Hijack releases: from here on there is no status to be seen, and the connection
// may live for days.
func (w *settlingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := w.ResponseWriter.Hijack()
	if err == nil {
		w.enforcer.settle(w.reservation, false)
	}
	return conn, buffered, err
}

// settle is called before anything is written.
func (w *settlingWriter) settle() {
	if w.reservation.Held() {
		w.enforcer.settle(w.reservation, success(w.Status()))
	}
}

// finish settles what is still open when the handlers have ended: nothing was
// written, and gin will send the status without a body.
func (w *settlingWriter) finish(returned, clientGone bool) {
	if !w.reservation.Held() {
		return
	}
	counts := returned && success(w.Status()) && (w.decided || !clientGone)
	w.enforcer.settle(w.reservation, counts)
}

func success(status int) bool { return status >= 200 && status < 300 }

func informational(status int) bool {
	return status >= 100 && status < 200 && status != http.StatusSwitchingProtocols
}

// inform sends an informational header past gin.
func inform(w gin.ResponseWriter, status int) {
	if !w.Written() {
		bottom(w).WriteHeader(status)
	}
}

// bottom returns the writer of net/http, which knows informational answers.
func bottom(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}
