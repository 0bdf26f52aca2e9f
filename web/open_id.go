package web

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/web/openid"
)

// attempt is a sign-in at the provider, as the browser keeps it meanwhile.
type attempt struct {
	openid.Attempt
	// Next is where to go on.
	Next string
}

// attemptFor is how long somebody may take at the provider.
const attemptFor = 10 * time.Minute

// attemptCookie makes the cookie of an attempt: as that of a sign-in, for a while.
func attemptCookie(r *http.Request, a attempt) (*http.Cookie, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	c := cookie(r, accounts.SignInToken(base64.RawURLEncoding.EncodeToString(text))) //nolint:gosec // as in cookie
	c.Name += "-attempt"
	c.MaxAge = int(attemptFor.Seconds())
	return c, nil
}

// attemptOf is the attempt of the browser, which is over with that; empty where there is none.
func (v *visit) attemptOf() (a attempt) {
	gone := cookie(v.r, "") //nolint:gosec // as in cookie
	gone.Name += "-attempt"
	gone.MaxAge = -1
	http.SetCookie(v.w, gone)
	given := v.r.CookiesNamed(gone.Name)
	if len(given) == 0 {
		return attempt{}
	}
	text, err := base64.RawURLEncoding.DecodeString(given[0].Value)
	if err != nil || json.Unmarshal(text, &a) != nil {
		return attempt{}
	}
	return a
}

// beginOpenID sends the browser to the provider.
func (v *visit) beginOpenID() error {
	provider := v.pages.config.OpenID
	if provider == nil {
		return notFound("sign-in by OpenID Connect here")
	}
	next := localPath(v.r.URL.Query().Get("next"))
	begun, to, err := provider.Begin(v.r.Context())
	if err != nil {
		return v.refuseOpenID(err, next)
	}
	c, err := attemptCookie(v.r, attempt{begun, next})
	if err != nil {
		return err
	}
	http.SetCookie(v.w, c)
	return v.redirect(to)
}

// finishOpenID signs in whom the provider tells of: with a new token, as by a key.
func (v *visit) finishOpenID() error {
	provider := v.pages.config.OpenID
	if provider == nil {
		return notFound("sign-in by OpenID Connect here")
	}
	a := v.attemptOf()
	next := localPath(a.Next)
	person, err := provider.Finish(v.r.Context(), a.Attempt, v.r.URL.Query())
	if err != nil {
		return v.refuseOpenID(err, next)
	}
	var before accounts.SecretHash
	if v.signedIn() {
		before = accounts.SignInToken(v.token).Hash()
	}
	address, _, err := net.SplitHostPort(v.r.RemoteAddr)
	if err != nil {
		address = v.r.RemoteAddr
	}
	ctx := accounts.WithActor(v.r.Context(), accounts.Actor{Name: person.Name, Owner: person.Owner, Role: person.Role, Address: address, RequestID: v.requestID()})
	made := accounts.NewSignInToken()
	begun, err := v.pages.config.SignIns.BeginPersonSignIn(ctx, person, made.Hash(), before)
	if errors.Is(err, fault.ErrNotFound) {
		return v.refuseOpenID(errors.Join(&openid.Refusal{Message: "The organization that the identity provider names isn't here."}, err), next)
	}
	if err != nil {
		return away(err)
	}
	actor, err := v.pages.config.API.KnowKey(v.r.Context(), begun.Secret, v.r.RemoteAddr)
	if err != nil {
		return err
	}
	http.SetCookie(v.w, cookie(v.r, made))
	if next == "" {
		next = homeOf(actor.Role)
	}
	return v.redirect(next)
}

// refuseOpenID shows the sign-in again with the reason, which the log has in full. Where to go on stays.
func (v *visit) refuseOpenID(err error, next string) error {
	v.pages.config.Logger.WarnContext(v.r.Context(), "Sign-in by OpenID Connect refused", "request_id", v.requestID(), "error", err)
	var refusal *openid.Refusal
	if errors.As(err, &refusal) {
		return v.show(http.StatusForbidden, "sign_in", v.signInPage(next, refusal.Message))
	}
	if errors.Is(err, openid.ErrAway) {
		return v.show(http.StatusServiceUnavailable, "sign_in", v.signInPage(next, "The identity provider can't be reached. Try again in a moment."))
	}
	return gate.NewProblem(http.StatusInternalServerError, gate.CodeInternal, "The sign-in failed. The log says why.")
}
