// Package openid signs people in by OpenID Connect: the authorization code flow, with PKCE, a state and a nonce.
//
// What a provider says is believed only in an ID token that it has signed, for this client, in answer to this attempt. Its
// groups say what somebody may do, at each sign-in anew; no token is kept.
package openid

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/riverline/tollgate/accounts"
)

// CallbackPath is where a provider sends browsers back to.
const CallbackPath = "/sign-in/openid/callback"

const (
	// askWithin bounds each request to the provider.
	askWithin = 10 * time.Second
	// askAgainAfter is the time before a provider is asked again that couldn't be reached.
	askAgainAfter = 5 * time.Second
	// maxAtOnce is how many sign-ins are finished at once: each asks the provider.
	maxAtOnce = 16
)

// The claims that may say who owns somebody's keys.
const (
	OwnerSubject = "sub"
	OwnerEmail   = "email"
)

// ErrAway says that the provider couldn't be asked.
var ErrAway = errors.New("the identity provider can't be reached")

// Refusal says, for people, why somebody isn't signed in.
type Refusal struct{ Message string }

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// Config is what a [Provider] is made from.
type Config struct {
	// Issuer is the provider's URL, ClientID and ClientSecret what it knows Tollgate by. The issuer and the ID are required.
	Issuer, ClientID, ClientSecret string
	// PublicURL is where browsers reach the pages: scheme and host. Required.
	PublicURL string
	// Scopes are asked for.
	Scopes []string
	// GroupsClaim has the groups of a person, a list of texts.
	GroupsClaim string
	// OwnerClaim is [OwnerSubject] or [OwnerEmail]; an address counts where the provider has verified it.
	OwnerClaim string
	// OrganizationClaim has the ID of the organization of which somebody is a tenant. Empty: nobody is one.
	OrganizationClaim string
	// Finance and Admin are the groups whose members are of finance and administrators.
	Finance, Admin []string
}

// Provider signs people in. Make it with [New].
type Provider struct {
	config Config
	client *http.Client
	atOnce chan struct{}

	mu sync.Mutex
	// found is the provider once it has been asked; askedAt is when it was asked last.
	found   *discovered
	askedAt time.Time
}

// discovered is what a provider says of itself.
type discovered struct {
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	signOut  string
}

// New makes a provider, which is asked at the first sign-in: the process doesn't depend on it.
func New(config Config) *Provider {
	return &Provider{config: config, client: &http.Client{Timeout: askWithin}, atOnce: make(chan struct{}, maxAtOnce)}
}

// Name is what people know the provider by: its host.
func (p *Provider) Name() string {
	if u, err := url.Parse(p.config.Issuer); err == nil && u.Host != "" {
		return u.Host
	}
	return p.config.Issuer
}

// discover asks the provider what it says of itself, once it answers. Its error is [ErrAway].
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if time.Since(p.askedAt) < askAgainAfter {
		return nil, ErrAway
	}
	defer func() { p.askedAt = time.Now() }()
	// Not the request's own end: what is found is everybody's.
	found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client), p.config.Issuer)
	if err != nil {
		return nil, errors.Join(ErrAway, err)
	}
	var more struct {
		SignOut string `json:"end_session_endpoint"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, errors.Join(ErrAway, err)
	}
	p.found = &discovered{
		oauth: oauth2.Config{
			ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Endpoint: found.Endpoint(),
			RedirectURL: p.config.PublicURL + CallbackPath, Scopes: p.config.Scopes,
		},
		verifier: found.Verifier(&oidc.Config{ClientID: p.config.ClientID}),
		signOut:  more.SignOut,
	}
	return p.found, nil
}

// Attempt is a sign-in that has begun. It is known to the browser alone, which brings it back.
type Attempt struct {
	// State comes back beside the code, Nonce in the ID token; Verifier proves that who has the code began the attempt.
	State, Nonce, Verifier string
}

// Begin makes an attempt, and returns where the browser goes. Its error is [ErrAway].
func (p *Provider) Begin(ctx context.Context) (Attempt, string, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return Attempt{}, "", err
	}
	a := Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	return a, found.oauth.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), nil
}

var (
	errOtherAttempt = &Refusal{"This answer is to another attempt to sign in, or to one that is over. Sign in again."}
	errNotBelieved  = &Refusal{"The identity provider's answer can't be believed. Sign in again; the log says what is wrong with it."}
)

// Finish reads the answer to an attempt, which is over then. Its error is a [*Refusal], joined with the reason, or [ErrAway].
func (p *Provider) Finish(ctx context.Context, a Attempt, answer url.Values) (accounts.Person, error) {
	if a.State == "" || a.Nonce == "" || a.Verifier == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(answer.Get("state"))) != 1 {
		return accounts.Person{}, errOtherAttempt
	}
	// RFC 9207: an answer that names its issuer is that one's.
	if from := answer.Get("iss"); from != "" && from != p.config.Issuer {
		return accounts.Person{}, errors.Join(errNotBelieved, fmt.Errorf("the answer is by %q", from))
	}
	if code := answer.Get("error"); code != "" {
		return accounts.Person{}, errors.Join(&Refusal{"The identity provider refuses the sign-in."}, fmt.Errorf("it says %q", code))
	}
	select {
	case p.atOnce <- struct{}{}:
		defer func() { <-p.atOnce }()
	case <-ctx.Done():
		return accounts.Person{}, errors.Join(ErrAway, ctx.Err())
	}
	found, err := p.discover(ctx)
	if err != nil {
		return accounts.Person{}, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	tokens, err := found.oauth.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.Response.StatusCode < http.StatusInternalServerError {
			return accounts.Person{}, errors.Join(errOtherAttempt, err)
		}
		return accounts.Person{}, errors.Join(ErrAway, err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	token, err := found.verifier.Verify(ctx, raw)
	if err != nil {
		return accounts.Person{}, errors.Join(errNotBelieved, err)
	}
	if subtle.ConstantTimeCompare([]byte(a.Nonce), []byte(token.Nonce)) != 1 {
		return accounts.Person{}, errors.Join(errNotBelieved, errors.New("its nonce is another attempt's"))
	}
	return p.person(token)
}

// SignOutURL is where somebody signs out at the provider, too; empty where it has no such place, or hasn't been asked yet.
func (p *Provider) SignOutURL() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil || !strings.HasPrefix(p.found.signOut, "https://") && !strings.HasPrefix(p.found.signOut, "http://") {
		return ""
	}
	separator := "?"
	if strings.Contains(p.found.signOut, "?") {
		separator = "&"
	}
	return p.found.signOut + separator + url.Values{"client_id": {p.config.ClientID}, "post_logout_redirect_uri": {p.config.PublicURL + "/sign-in"}}.Encode()
}

// inAny reports whether somebody is in one of some groups.
func inAny(groups, of []string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(of, g) })
}
