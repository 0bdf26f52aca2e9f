package web

import (
	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
)

// organizationSearch is a search for organizations, and a page of those found.
type organizationSearch struct {
	Search string
	Found  []accounts.Organization
	// Next leads to those after these; empty at the end.
	Next string
}

func (v *visit) searchOrganizations() (organizationSearch, error) {
	query := v.r.URL.Query()
	p := organizationSearch{Search: query.Get("search")}
	after := query.Get("after")
	if p.Search != "" {
		after = ""
	}
	var found gen.OrganizationPage
	err := v.get(&found, "/organizations", "search", p.Search, "limit", "50", "after", after)
	p.Found, p.Next = found.Organizations, pageAfter(found.Next)
	return p, err
}

// organizationsPage finds organizations, and makes another one.
type organizationsPage struct {
	organizationSearch
	Plans   []gen.Plan
	Refusal string
}

func (v *visit) organizationsPage() (p organizationsPage, err error) {
	if p.organizationSearch, err = v.searchOrganizations(); err != nil {
		return p, err
	}
	var catalog gen.Catalog
	err = v.get(&catalog, "/plans")
	p.Plans = catalog.Plans
	return p, err
}

func (v *visit) organizations() error {
	return showPage(v, "organizations", v.organizationsPage)
}

func (v *visit) addOrganization() error {
	wanted := gen.OrganizationCreate{Name: v.r.PostFormValue("name"), Plan: v.given("plan"), Currency: v.given("currency")}
	var made accounts.Organization
	err := v.send("POST", "/organizations", wanted, &made)
	return v.after(err, "/organizations/"+made.ID.String()+"?done=made", showAgain(v, "organizations", v.organizationsPage, func(p *organizationsPage, says string) { p.Refusal = says }))
}

// organizationPage shows one organization: its contract, usage, keys and what was changed of it.
type organizationPage struct {
	Organization accounts.Organization
	Plans        []gen.Plan
	Meters       []meterView
	keysPage
}

// at is the API's path of the organization that the page is of.
func (v *visit) at() string { return "/organizations/" + v.r.PathValue("id") }

func (v *visit) organizationPage() (organizationPage, error) {
	p := organizationPage{keysPage: keysPage{Action: v.at() + "/keys"}}
	if err := v.get(&p.Organization, v.at()); err != nil {
		return p, err
	}
	var used gen.Usage
	if err := v.get(&used, "/usage", "organization_id", p.Organization.ID.String()); err != nil {
		return p, err
	}
	var catalog gen.Catalog
	if err := v.get(&catalog, "/plans"); err != nil {
		return p, err
	}
	var keys gen.KeyList
	err := v.get(&keys, v.at()+"/keys")
	p.Plans, p.Keys, p.Meters = catalog.Plans, keys.Keys, v.meterViews(used, catalog)
	return p, err
}

func (v *visit) organization() error {
	return showPage(v, "organization", v.organizationPage)
}

// changeOrganization changes its name or plan.
func (v *visit) changeOrganization() error {
	wanted := gen.OrganizationUpdate{Name: v.given("name"), Plan: v.given("plan")}
	// What wasn't touched is somebody else's to change meanwhile.
	if was := v.given("was"); was != nil && wanted.Name != nil && *wanted.Name == *was {
		wanted.Name = nil
	}
	if wanted.Name == nil && wanted.Plan == nil {
		return v.redirect(v.at())
	}
	err := v.send("PATCH", v.at(), wanted, nil)
	return v.after(err, v.at()+"?done=organization", showAgain(v, "organization", v.organizationPage, func(p *organizationPage, says string) { p.Refusal = says }))
}

func (v *visit) addOrganizationKey() error {
	var made gen.CreatedKey
	err := v.send("POST", v.at()+"/keys", gen.OrganizationKeyCreate{Name: v.r.PostFormValue("name"), Owner: v.given("owner")}, &made)
	refused, isRefused := refusal(err)
	if err != nil && !isRefused {
		return err
	}
	p, err := v.organizationPage()
	if err != nil {
		return err
	}
	return v.showKey("organization", refused, &p.keysPage, made, &p)
}
