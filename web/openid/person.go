package openid

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
)

// claims are what an ID token says, by name.
type claims map[string]any

func (c claims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// list is that of a claim, or its only item.
func (c claims) list(name string) (out []string) {
	switch value := c[name].(type) {
	case string:
		return []string{value}
	case []any:
		for _, item := range value {
			if text, ok := item.(string); ok {
				out = append(out, text)
			}
		}
	}
	return out
}

// person is whom a token is about, with what the groups say that he may do.
func (p *Provider) person(token *oidc.IDToken) (accounts.Person, error) {
	said := claims{}
	if err := token.Claims(&said); err != nil {
		return accounts.Person{}, errors.Join(errNotBelieved, err)
	}
	// Of several audiences, the one whom it was made for says so (OpenID Connect Core 1.0, section 3.1.3.7).
	if by := said.text("azp"); by != p.config.ClientID && (by != "" || len(token.Audience) > 1) {
		return accounts.Person{}, errors.Join(errNotBelieved, fmt.Errorf("it was made for %q", by))
	}
	out := accounts.Person{Issuer: p.config.Issuer, Subject: token.Subject}
	var err error
	if out.Owner, err = p.owner(token.Subject, said); err != nil {
		return accounts.Person{}, err
	}
	out.Name = nameOf(said, out.Owner)
	out.Role, out.Organization, err = p.roleOf(said)
	return out, err
}

// owner is what four eyes compare.
func (p *Provider) owner(subject string, said claims) (string, error) {
	text := subject
	if p.config.OwnerClaim == OwnerEmail {
		// Only true itself: a text that says so may be anything.
		if verified, _ := said["email_verified"].(bool); !verified {
			return "", &Refusal{"The identity provider has not verified your e-mail address, by which people are told apart here."}
		}
		text = said.text("email")
	}
	owner, err := accounts.ParseOwner(text)
	if err != nil || subject == "" {
		return "", errors.Join(&Refusal{"The identity provider doesn't say who you are in a form that can be kept."}, err)
	}
	return owner, nil
}

// nameOf is what people call somebody.
func nameOf(said claims, owner string) string {
	for _, claim := range []string{"name", "preferred_username", "email"} {
		name := strings.Join(strings.FieldsFunc(said.text(claim), func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }), " ")
		if accounts.ValidateName("name", name) == nil {
			return name
		}
	}
	return owner
}

// roleOf is what the groups of somebody let him do. Finance and administrators are different people: who could make a key of
// finance's would be two by himself.
func (p *Provider) roleOf(said claims) (accounts.Role, uuid.UUID, error) {
	groups := said.list(p.config.GroupsClaim)
	finance, admin := inAny(groups, p.config.Finance), inAny(groups, p.config.Admin)
	switch {
	case finance && admin:
		return "", uuid.Nil, &Refusal{"You are in groups of finance and of administrators. Those have to be different people: leave one of them."}
	case finance:
		return accounts.RoleFinance, uuid.Nil, nil
	case admin:
		return accounts.RoleAdmin, uuid.Nil, nil
	}
	if p.config.OrganizationClaim != "" {
		if organization, err := uuid.Parse(said.text(p.config.OrganizationClaim)); err == nil && organization != uuid.Nil {
			return accounts.RoleTenant, organization, nil
		}
	}
	return "", uuid.Nil, &Refusal{"You are in none of the groups that may come in here. Ask who runs Tollgate; groups count from the next sign-in on."}
}
