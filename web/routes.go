package web

import (
	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/web/openid"
)

// route is a page, or what a form of one does.
type route struct {
	pattern string
	// roles may visit. Nil: anybody may.
	roles []accounts.Role
	serve func(*visit) error
}

var (
	tenants    = []accounts.Role{accounts.RoleTenant}
	finance    = []accounts.Role{accounts.RoleFinance}
	admins     = []accounts.Role{accounts.RoleAdmin}
	staff      = []accounts.Role{accounts.RoleFinance, accounts.RoleAdmin}
	keyHolders = []accounts.Role{accounts.RoleTenant, accounts.RoleAdmin}
	everyone   = []accounts.Role{accounts.RoleTenant, accounts.RoleFinance, accounts.RoleAdmin}
)

// routes are all pages. docs/security.md has a table of them, which a test holds against this one.
var routes = []route{
	{"GET /{$}", nil, (*visit).home},
	{"GET /demo", nil, (*visit).firstPage},
	{"POST /demo", nil, (*visit).hitLimit},
	{"GET /sign-in", nil, (*visit).askToSignIn},
	{"POST /sign-in", nil, (*visit).begin},
	{"GET /sign-in/openid", nil, (*visit).beginOpenID},
	{"GET " + openid.CallbackPath, nil, (*visit).finishOpenID},
	{"POST /sign-out", everyone, (*visit).end},
	{"GET /style", nil, (*visit).style},
	// Where a 402 points to, opened by a person instead of a program.
	{"GET /api/v1/organizations/{id}/upgrade", nil, (*visit).upgradeURL},

	{"GET /usage", tenants, (*visit).usage},
	{"GET /usage/live", tenants, (*visit).usageLive},
	{"GET /usage/{meter}", tenants, (*visit).history},
	{"GET /money", tenants, (*visit).money},
	{"GET /plan", tenants, (*visit).plan},
	{"POST /plan", tenants, (*visit).changePlan},
	{"POST /plan/keep", tenants, (*visit).keepPlan},
	{"GET /statements", tenants, (*visit).statements},
	{"GET /statements/{number}", tenants, (*visit).statement},
	{"GET /keys", keyHolders, (*visit).keys},

	{"GET /webhooks", everyone, (*visit).webhooks},
	{"POST /webhooks", everyone, (*visit).addWebhook},
	{"GET /webhooks/{id}", everyone, (*visit).webhook},
	{"POST /webhooks/{id}", everyone, (*visit).changeWebhook},
	{"POST /webhooks/{id}/deliveries/{event}", everyone, (*visit).redeliver},

	{"GET /months", finance, (*visit).months},
	{"POST /months", finance, (*visit).startMonth},
	{"GET /months/{period}", finance, (*visit).month},
	{"POST /months/{period}", finance, (*visit).decide},
	{"GET /months/{period}/live", finance, (*visit).monthLive},
	{"GET /months/{period}/files.zip", finance, (*visit).monthFiles},
	{"GET /months/{period}/files/{name}", finance, (*visit).monthFile},
	{"GET /months/{period}/statements/{organization}", finance, (*visit).monthStatement},

	{"GET /months/{period}/deliveries", finance, (*visit).deliveries},
	{"POST /months/{period}/deliveries", finance, (*visit).deliver},
	{"GET /credits", staff, (*visit).credits},
	{"GET /credits/{organization}", staff, (*visit).credit},
	{"POST /credits/{organization}", finance, (*visit).grantCredit},
	{"POST /credits/{organization}/proposals/{proposal}", finance, (*visit).decideCredit},
	{"POST /credits/{organization}/{grant}", finance, (*visit).voidCredit},

	{"GET /prices", staff, (*visit).prices},
	{"POST /prices", staff, (*visit).editPrices},

	{"GET /instances", admins, (*visit).instances},
	{"GET /instances/live", admins, (*visit).instancesLive},
	{"POST /instances/{id}", admins, (*visit).flush},
	{"GET /reconcile", admins, (*visit).reconcile},
	{"GET /quarantine", admins, (*visit).quarantine},
	{"POST /quarantine/{id}", admins, (*visit).decideQuarantined},

	{"GET /organizations", admins, (*visit).organizations},
	{"POST /organizations", admins, (*visit).addOrganization},
	{"GET /organizations/{id}", admins, (*visit).organization},
	{"POST /organizations/{id}", admins, (*visit).changeOrganization},
	{"POST /organizations/{id}/keys", admins, (*visit).addOrganizationKey},
	{"POST /keys", admins, (*visit).addKey},
	{"POST /keys/{id}", admins, (*visit).revokeKey},
	{"GET /plans", admins, (*visit).catalog},
	{"GET /plans/{key}", admins, (*visit).planVersions},
	{"POST /plans/{key}", admins, (*visit).putPlan},
	{"GET /audit", admins, (*visit).audit},
}

// navigation is what a role finds at the top of each page.
var navigation = map[accounts.Role][]link{
	accounts.RoleTenant: {
		{"/usage", "Usage"}, {"/money", "Money"}, {"/plan", "Plan"}, {"/statements", "Statements"}, {"/webhooks", "Webhooks"}, {"/keys", "Keys"},
	},
	accounts.RoleFinance: {{"/months", "Months"}, {"/credits", "Credits"}, {"/prices", "Prices"}, {"/webhooks", "Webhooks"}},
	accounts.RoleAdmin: {
		{"/instances", "Instances"},
		{"/organizations", "Organizations"},
		{"/plans", "Plans"},
		{"/prices", "Prices"},
		{"/keys", "Keys"},
		{"/audit", "Audit"},
		{"/reconcile", "Reconcile"},
		{"/quarantine", "Quarantine"},
		{"/webhooks", "Webhooks"},
	},
}

// link leads to a page.
type link struct{ To, Text string }

func (v *visit) home() error {
	switch {
	case v.signedIn():
		return v.redirect(homeOf(v.actor.Role))
	case len(v.demo()) > 0:
		return v.redirect("/demo")
	default:
		return v.redirect("/sign-in")
	}
}

func (v *visit) upgradeURL() error { return v.redirect("/plan") }
