package app

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/web/openid"
)

// People say how people sign in at the pages.
type People struct {
	SignInByKey           bool     `default:"true" negatable:"" env:"TOLLGATE_SIGN_IN_BY_KEY" help:"Let people sign in at the pages with a key. --no-sign-in-by-key where all of them come by OpenID Connect."`
	PublicURL             string   `env:"TOLLGATE_PUBLIC_URL" placeholder:"URL" help:"Where browsers reach the API, for OpenID Connect: https:// and a host. The provider sends them back to /sign-in/openid/callback there."`
	OIDCIssuer            string   `name:"oidc-issuer" env:"TOLLGATE_OIDC_ISSUER" placeholder:"URL" help:"OpenID Connect provider at which people sign in: its issuer, exactly as it writes it. Default: none."`
	OIDCClientID          string   `name:"oidc-client-id" env:"TOLLGATE_OIDC_CLIENT_ID" placeholder:"ID" help:"What the provider knows Tollgate by."`
	OIDCClientSecret      string   `name:"oidc-client-secret" secret:"" env:"TOLLGATE_OIDC_CLIENT_SECRET" placeholder:"SECRET" help:"Its secret at the provider. Default: none, for a client that is public there; PKCE is used in any case."`
	OIDCScopes            []string `name:"oidc-scopes" default:"openid,profile,email" env:"TOLLGATE_OIDC_SCOPES" placeholder:"SCOPE,…" help:"What is asked for at the provider; openid is among it. Some provider wants another one for groups."`
	OIDCGroupsClaim       string   `name:"oidc-groups-claim" default:"groups" env:"TOLLGATE_OIDC_GROUPS_CLAIM" placeholder:"CLAIM" help:"Claim of the ID token that has a person's groups, or roles."`
	OIDCFinanceGroups     []string `name:"oidc-finance-groups" env:"TOLLGATE_OIDC_FINANCE_GROUPS" placeholder:"GROUP,…" help:"Groups whose members are of finance."`
	OIDCAdminGroups       []string `name:"oidc-admin-groups" env:"TOLLGATE_OIDC_ADMIN_GROUPS" placeholder:"GROUP,…" help:"Groups whose members are administrators. Who is of finance, too, can't sign in."`
	OIDCOrganizationClaim string   `name:"oidc-organization-claim" env:"TOLLGATE_OIDC_ORGANIZATION_CLAIM" placeholder:"CLAIM" help:"Claim that has the ID of an organization: who is in none of those groups is a tenant of it. Only for a claim that people can't set themselves. Default: tenants sign in by keys."`
	OIDCOwnerClaim        string   `name:"oidc-owner-claim" enum:"sub,email" default:"sub" env:"TOLLGATE_OIDC_OWNER_CLAIM" help:"What tells people apart where two are needed: ${enum}. Keys of the same people must name the same as their owner. An email counts where the provider has verified it."`
}

// Validate checks the settings.
func (p People) Validate() error {
	if p.OIDCIssuer == "" {
		if !p.SignInByKey {
			return errors.New("--no-sign-in-by-key lets nobody sign in without --oidc-issuer")
		}
		return nil
	}
	failed := errors.Join(config.CheckHTTPURL("--oidc-issuer", p.OIDCIssuer), config.CheckHTTPURL("--public-url", p.PublicURL),
		checkEncrypted("--oidc-issuer", p.OIDCIssuer), checkEncrypted("--public-url", p.PublicURL))
	if p.OIDCClientID == "" || p.PublicURL == "" {
		failed = errors.Join(failed, errors.New("--oidc-issuer needs --oidc-client-id and --public-url"))
	}
	if u, err := url.Parse(p.PublicURL); err == nil && strings.Trim(u.Path, "/") != "" {
		failed = errors.Join(failed, fmt.Errorf("--public-url is %q: it must have no path", p.PublicURL))
	}
	if len(p.OIDCFinanceGroups)+len(p.OIDCAdminGroups) == 0 && p.OIDCOrganizationClaim == "" {
		failed = errors.Join(failed, errors.New("--oidc-issuer lets nobody in without --oidc-finance-groups, --oidc-admin-groups or --oidc-organization-claim"))
	}
	for _, group := range slices.Concat(p.OIDCFinanceGroups, p.OIDCAdminGroups) {
		if strings.TrimSpace(group) == "" {
			failed = errors.Join(failed, errors.New("--oidc-finance-groups and --oidc-admin-groups must not name an empty group"))
		}
	}
	if !slices.Contains(p.OIDCScopes, "openid") {
		failed = errors.Join(failed, errors.New("--oidc-scopes must have openid"))
	}
	return failed
}

// checkEncrypted refuses a URL that browsers, or codes of sign-ins, would reach over a network in the clear.
func checkEncrypted(flag, value string) error {
	u, err := url.Parse(value)
	if err != nil {
		return fmt.Errorf("%s must be a URL", flag)
	}
	if u.Scheme != "http" || slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%s is %q: it must be https://, except on this machine", flag, value)
}

// provider is where people sign in; nil: nowhere but here.
func (p People) provider() *openid.Provider {
	if p.OIDCIssuer == "" {
		return nil
	}
	return openid.New(openid.Config{
		Issuer: p.OIDCIssuer, ClientID: p.OIDCClientID, ClientSecret: p.OIDCClientSecret, PublicURL: strings.TrimSuffix(p.PublicURL, "/"),
		Scopes: p.OIDCScopes, GroupsClaim: p.OIDCGroupsClaim, OwnerClaim: p.OIDCOwnerClaim, OrganizationClaim: p.OIDCOrganizationClaim,
		Finance: p.OIDCFinanceGroups, Admin: p.OIDCAdminGroups,
	})
}
