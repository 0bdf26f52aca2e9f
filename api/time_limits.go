package api

import (
	"net/http"
	"time"
)

// quick bounds what a handler waits for others.
const quick = 15 * time.Second

// longAnswer is how long a download may take.
const longAnswer = 15 * time.Minute

// allowLongAnswer gives a download more time than other answers have. A writer that
// has no deadline needs none moved.
func allowLongAnswer(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longAnswer))
}
