package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/gate"
)

// overloaded reports whether a request is shed; then it has been answered. It comes before
// everything else that a request costs: what is shed must be cheap. Probes, administration and
// finance never are, as theirs is not the traffic that overloads.
func (s *Server) overloaded(w http.ResponseWriter, r *http.Request) bool {
	if IsProbe(r) {
		return false
	}
	caller, sheddable := s.sheddable(r)
	if !sheddable || s.config.Shedder.Admit(caller, r.ContentLength) {
		return false
	}
	s.setHeaders(w.Header(), r)
	w.Header().Set("Retry-After", "1")
	problemOf(errOverloaded).Write(w)
	s.hold(w, r)
	return true
}

// hold keeps a connection from being read for a while, once its answer is out. One that a proxy
// shares among callers isn't held: the next request on it may be anybody's.
func (s *Server) hold(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Via"} {
		if len(r.Header[name]) > 0 {
			return
		}
	}
	held := s.config.Shedder.Hold()
	if held == 0 || http.NewResponseController(w).Flush() != nil {
		return
	}
	timer := time.NewTimer(held)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// sheddable says whose request it is, from memory alone, and whether it may be shed. Those whose
// key isn't known yet are few callers together, by their addresses: who makes keys up in one place
// takes nothing from whoever comes with a key from another.
func (s *Server) sheddable(r *http.Request) (caller uuid.UUID, may bool) {
	secret, ok := bearer(r.Header["Authorization"])
	if !ok || len(secret) > maxSecretLength {
		return strangerAt(r.RemoteAddr), true
	}
	hash := accounts.HashSecret(secret)
	if known := s.keys.shard(hash).get(hash); known != nil {
		return known.principal.caller(), known.principal.role == roleTenant
	}
	// The role of a key is in its secret. One that is made up gets its 401.
	other := strings.HasPrefix(secret, "tg_"+string(roleAdmin)+"_") || strings.HasPrefix(secret, "tg_"+string(roleFinance)+"_")
	return strangerAt(r.RemoteAddr), !other
}

// shedHealth is the state of the part "load".
func shedHealth(s *gate.Shedder) error {
	if s.Active() {
		return PartOverloaded
	}
	return nil
}
