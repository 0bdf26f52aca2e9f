package web

import (
	"errors"
	"net"
	"net/http"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/gate"
)

// DemoVisitor is a role to try, with a key of the demo's: whoever opens the first page can sign in with it.
type DemoVisitor struct {
	// Name is the role, Does says what it does.
	Name, Does string
	// Key is the secret of its key, Page where it begins.
	Key, Page string
	// Limited is a meter whose hard limit the visitor can be shown to hit; empty: none.
	Limited string
}

// demo returns who is offered to this request: nobody but on the machine itself.
func (v *visit) demo() []DemoVisitor {
	host, _, err := net.SplitHostPort(v.r.RemoteAddr)
	if v.pages.config.Demo == nil || err != nil || !isLoopback(host) || !isLoopback(v.r.Host) {
		return nil
	}
	return v.pages.config.Demo()
}

// demoPage offers the roles.
type demoPage struct {
	Visitors []DemoVisitor
	// Hit is what became of the requests that hit a limit; nil until somebody wanted them.
	Hit *limitHit
}

// limitHit is what requests were answered that used up a limit.
type limitHit struct {
	Admitted int64
	Refused  *gate.Problem
	Visitor  DemoVisitor
}

func (v *visit) firstPage() error {
	offered := v.demo()
	if len(offered) == 0 {
		return notFound("demo here")
	}
	return v.page("demo", demoPage{Visitors: offered})
}

// maxHits is how many requests are sent at most.
const maxHits = 200

// hitLimit sends real requests, one unit each, until the hard limit refuses one.
func (v *visit) hitLimit() error {
	offered := v.demo()
	p := demoPage{Visitors: offered}
	for _, one := range offered {
		if one.Limited != "" {
			p.Hit = &limitHit{Visitor: one}
		}
	}
	if p.Hit == nil {
		return notFound("demo here")
	}
	as := *v
	as.signIn.Secret = accounts.HashSecret(p.Hit.Visitor.Key)
	for range maxHits {
		err := as.ask(http.MethodPost, "/usage", nil, map[string]any{"meter": p.Hit.Visitor.Limited, "quantity": 1}, nil)
		if errors.As(err, &p.Hit.Refused) {
			break
		}
		if err != nil {
			return err
		}
		p.Hit.Admitted++
	}
	return v.page("demo", p)
}
