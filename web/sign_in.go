package web

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/gate"
)

// cookieName is that of the cookie. A browser takes one of __Host- over TLS alone, for this host alone
// (RFC 6265bis, section 4.1.3.2); to this machine by name, requests may come without TLS. Cookies don't know ports
// (section 8.5): the name has that of the host, so that two of these on one host don't sign each other's people out.
func cookieName(r *http.Request) string {
	name := "__Host-tollgate"
	if isLoopback(r.Host) {
		name = "tollgate"
	}
	if _, port, err := net.SplitHostPort(r.Host); err == nil && port != "" {
		name += "-" + port
	}
	return name
}

// cookie makes the cookie of a token. It ends with the browser, or with the sign-in.
func cookie(r *http.Request, t accounts.SignInToken) *http.Cookie {
	//nolint:gosec // Secure is left out for this machine by name alone: there, requests come without TLS
	return &http.Cookie{
		Name: cookieName(r), Value: string(t), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: !isLoopback(r.Host),
	}
}

// recognize finds out who visits. Nobody is no error.
func (v *visit) recognize() error {
	given := v.r.CookiesNamed(cookieName(v.r))
	if len(given) == 0 {
		return nil
	}
	t := accounts.SignInToken(given[0].Value)
	found, err := v.pages.config.SignIns.SignIn(v.r.Context(), t.Hash())
	if errors.Is(err, fault.ErrNotFound) {
		v.forget()
		return nil
	}
	if err != nil {
		return away(err)
	}
	actor, err := v.pages.config.API.KnowKey(v.r.Context(), found.Secret, v.r.RemoteAddr)
	var problem *gate.Problem
	if errors.As(err, &problem) && problem.Status == http.StatusUnauthorized {
		// The key was revoked: so is what acts for it.
		v.forget()
		return away(v.pages.config.SignIns.EndSignIn(v.r.Context(), t.Hash()))
	}
	if err != nil {
		return err
	}
	v.token, v.signIn, v.actor = token(t), found, actor
	return nil
}

// away makes a problem of a store that can't be asked.
func away(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(err, gate.NewProblem(http.StatusServiceUnavailable, gate.CodeUnavailable, "The database is away. Try again in a moment."))
}

// forget takes the cookie back.
func (v *visit) forget() {
	gone := cookie(v.r, "") //nolint:gosec // as in cookie
	gone.MaxAge = -1
	http.SetCookie(v.w, gone)
	v.token, v.signIn, v.actor = "", accounts.SignIn{}, accounts.Actor{}
}

// signInPage asks who somebody is.
type signInPage struct {
	// Next is where to go on.
	Next string
	// Refused says why the last one was refused.
	Refused string
	// ByKey says that a key will do.
	ByKey bool
	// Provider is the name of the identity provider; empty where there is none. SignOut is where one signs out there: shown to
	// who has signed out here.
	Provider, SignOut string
}

func (v *visit) signInPage(next, refused string) signInPage {
	page := signInPage{Next: next, Refused: refused, ByKey: !v.pages.config.NoKeys}
	if provider := v.pages.config.OpenID; provider != nil {
		page.Provider = provider.Name()
		if v.r.URL.Query().Get("done") == "out" {
			page.SignOut = provider.SignOutURL()
		}
	}
	return page
}

func (v *visit) askToSignIn() error {
	next := localPath(v.r.URL.Query().Get("next"))
	if v.signedIn() {
		return v.redirect(cmp.Or(next, homeOf(v.actor.Role)))
	}
	return v.show(http.StatusOK, "sign_in", v.signInPage(next, ""))
}

// begin signs in: with a new token each time, so that nobody can have chosen it.
func (v *visit) begin() error {
	if v.pages.config.NoKeys {
		return gate.NewProblem(http.StatusForbidden, "forbidden", "Keys are for programs here: people sign in at the identity provider.")
	}
	secret, next := strings.TrimSpace(v.r.PostFormValue("key")), localPath(v.r.PostFormValue("next"))
	actor, err := v.pages.config.API.KnowSecret(v.r.Context(), secret, v.r.RemoteAddr)
	var problem *gate.Problem
	if errors.As(err, &problem) {
		says := problem.Message
		if problem.Status == http.StatusUnauthorized {
			says = "This is no key that works. A key begins with tg_, and is shown once, when it is made."
		}
		return v.show(problem.Status, "sign_in", v.signInPage(next, says))
	}
	if err != nil {
		return err
	}
	var before accounts.SecretHash
	if v.signedIn() {
		before = accounts.SignInToken(v.token).Hash()
	}
	made := accounts.NewSignInToken()
	actor.RequestID = v.requestID()
	ctx := accounts.WithActor(v.r.Context(), actor)
	if _, err := v.pages.config.SignIns.BeginSignIn(ctx, accounts.HashSecret(secret), made.Hash(), before); err != nil {
		return away(err)
	}
	http.SetCookie(v.w, cookie(v.r, made))
	if next == "" {
		next = homeOf(actor.Role)
	}
	return v.redirect(next)
}

func (v *visit) end() error {
	actor := v.actor
	actor.RequestID = v.requestID()
	ctx := accounts.WithActor(v.r.Context(), actor)
	if err := v.pages.config.SignIns.EndSignIn(ctx, accounts.SignInToken(v.token).Hash()); err != nil {
		return away(err)
	}
	v.forget()
	return v.redirect("/sign-in?done=out")
}

// localPath is a path on this host; empty where it leads elsewhere.
func localPath(path string) string {
	// A browser takes a backslash for a slash, and passes over tabs and ends of lines: "/\t/host" is "//host".
	elsewhere := strings.HasPrefix(path, "//") || strings.ContainsFunc(path, func(c rune) bool { return c == '\\' || c <= ' ' || c > '~' })
	if !strings.HasPrefix(path, "/") || elsewhere || strings.HasPrefix(path, "/api/") {
		return ""
	}
	return path
}

// homeOf is the first page of a role.
func homeOf(role accounts.Role) string { return navigation[role][0].To }
