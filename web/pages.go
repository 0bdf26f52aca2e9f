package web

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/web/openid"
)

//go:embed assets
var assets embed.FS

// SignIns keeps who is signed in. A token's hash is [accounts.SignInToken.Hash].
type SignIns interface {
	// BeginSignIn begins one that acts for a key, and ends the one of the token before; [accounts.ErrKeyNotFound].
	BeginSignIn(ctx context.Context, key, token, before accounts.SecretHash) (accounts.SignIn, error)
	// BeginPersonSignIn is the same for a person of an identity provider; [accounts.ErrOrganizationNotFound].
	BeginPersonSignIn(ctx context.Context, p accounts.Person, token, before accounts.SecretHash) (accounts.SignIn, error)
	// SignIn returns the open one of a token, or [accounts.ErrSignInNotFound].
	SignIn(ctx context.Context, token accounts.SecretHash) (accounts.SignIn, error)
	// EndSignIn ends the one of a token.
	EndSignIn(ctx context.Context, token accounts.SecretHash) error
}

// API answers what pages ask. An error is a [*gate.Problem] where it can be shown.
type API interface {
	// KnowSecret returns whose key a secret is that somebody at a remote address has.
	KnowSecret(ctx context.Context, secret, remote string) (accounts.Actor, error)
	// KnowKey returns whose key has a secret of a hash.
	KnowKey(ctx context.Context, hash accounts.SecretHash, remote string) (accounts.Actor, error)
	// Ask answers a request of the API as one that bears the key, under a request's ID.
	Ask(w http.ResponseWriter, r *http.Request, key accounts.SecretHash, requestID string)
}

// Config is what [Pages] are made from.
type Config struct {
	// API and SignIns are asked. Required.
	API     API
	SignIns SignIns
	// Demo returns whom the first page offers, on this machine alone: [DemoVisitor]. Nil: nobody.
	Demo func() []DemoVisitor
	// OpenID signs people in. Nil: they sign in by keys alone.
	OpenID *openid.Provider
	// NoKeys takes no keys for a sign-in.
	NoKeys bool
	// LiveEvery is the time between two looks at what moves. Zero: 2 seconds.
	LiveEvery time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger takes failures. Nil: slog.Default.
	Logger *slog.Logger
}

// Pages serve HTML. Make them with [New].
type Pages struct {
	config Config
	views  views
	mux    *http.ServeMux
	// crossOrigin refuses what another site's page sends.
	crossOrigin *http.CrossOriginProtection
	streams     streams
	trials      trials
}

// New makes pages. It panics where a required field of the config is missing, or a template is broken.
func New(config Config) *Pages {
	if config.API == nil || config.SignIns == nil {
		panic("web: Config.API and SignIns are required")
	}
	if config.LiveEvery == 0 {
		config.LiveEvery = 2 * time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	p := &Pages{config: config, views: parseViews(), mux: http.NewServeMux(), crossOrigin: http.NewCrossOriginProtection()}
	p.streams = streams{open: map[string]int{}, stopped: make(chan struct{})}
	p.trials = trials{kept: map[string]*trial{}}
	for _, r := range routes {
		p.mux.HandleFunc(r.pattern, p.serve(r))
	}
	p.mux.Handle("GET /assets/{file...}", cached(http.FileServerFS(assets)))
	return p
}

// Routes returns the patterns that the pages answer, as http.ServeMux has them.
func (p *Pages) Routes() []string {
	out := []string{"GET /assets/{file...}"}
	for _, r := range routes {
		out = append(out, r.pattern)
	}
	return out
}

// Stop ends what is streamed, and what is tried. Call it when the server stops.
func (p *Pages) Stop() {
	p.streams.stop()
	p.trials.stop()
}

// policy lets a page load what this program serves, and nothing else: no inline script, no inline style.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers a request.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	prepare(w)
	p.mux.ServeHTTP(w, r)
}

func prepare(w http.ResponseWriter) {
	w.Header().Set("Content-Security-Policy", policy)
	// After signing out, going back shows nothing.
	w.Header().Set("Cache-Control", "no-store")
}

// cached lets browsers keep files: their names, or the program, change with them.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		next.ServeHTTP(w, r)
	})
}

// maxForm is the largest form, in bytes. A plan is 64 KiB at most, of which a form makes up to three times as many.
const maxForm = 256 << 10

// serve finds out who visits, whether that role may, and that a form is one of ours.
func (p *Pages) serve(to route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{pages: p, w: w, r: r, now: p.config.Now().UTC()}
		err := v.enter(to)
		if err == nil {
			err = to.serve(v)
		}
		if err != nil {
			v.fail(err)
		}
	}
}

// enter prepares a visit, or says why it may not be.
func (v *visit) enter(to route) error {
	if err := v.pages.crossOrigin.Check(v.r); err != nil {
		return errOtherSite
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if err := v.readForm(); err != nil {
		return err
	}
	if err := v.recognize(); err != nil {
		return err
	}
	if to.roles == nil {
		return nil
	}
	if !v.signedIn() {
		return errSignedOut
	}
	if !slices.Contains(to.roles, v.actor.Role) {
		return gate.NewProblem(http.StatusForbidden, "forbidden", "This page is for others: you are signed in as "+string(v.actor.Role)+".")
	}
	if err := v.checkIDs(); err != nil {
		return err
	}
	if v.r.Method == http.MethodPost && !v.token.hasForm(v.r.PostFormValue("form")) {
		if v.fromHere() {
			return errOlderForm
		}
		return errOtherSite
	}
	return nil
}

// readForm reads what was typed, or says why it can't be read: what is missing of it would be taken for another site's.
func (v *visit) readForm() error {
	if v.r.Method != http.MethodPost {
		return nil
	}
	err := v.r.ParseForm()
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return gate.NewProblem(http.StatusRequestEntityTooLarge, gate.CodeBodyTooLarge, fmt.Sprintf("The form is larger than %d KiB. Nothing was done.", tooLarge.Limit>>10))
	}
	if err != nil {
		return gate.NewProblem(http.StatusBadRequest, "invalid_form", "The form can't be read: "+err.Error()+".")
	}
	return nil
}
