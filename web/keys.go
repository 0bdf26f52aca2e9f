package web

import (
	"net/http"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/gate"
)

// keysPage lists keys: an organization's, or those of finance and administrators.
type keysPage struct {
	Keys []gen.Key
	// Mine is the key that is signed in.
	Mine string
	// Action is where a form makes another key; empty where the visitor makes none.
	Action string
	// Made is one that was made just now: its secret is shown this once.
	Made    *gen.CreatedKey
	Refusal string
}

// Roles are those of keys that have no organization; none where the keys are an organization's.
func (p keysPage) Roles() []accounts.Role {
	if p.Action != "/keys" {
		return nil
	}
	return []accounts.Role{accounts.RoleFinance, accounts.RoleAdmin}
}

func (v *visit) keysPage() (keysPage, error) {
	p := keysPage{Mine: v.actor.Key.String()}
	path := v.own("/keys")
	if v.actor.Role == accounts.RoleAdmin {
		path, p.Action = "/keys", "/keys"
	}
	var found gen.KeyList
	err := v.get(&found, path)
	p.Keys = found.Keys
	return p, err
}

func (v *visit) keys() error {
	return showPage(v, "keys", v.keysPage)
}

func (v *visit) addKey() error {
	var made gen.CreatedKey
	err := v.send("POST", "/keys", gen.KeyCreate{
		Name: v.r.PostFormValue("name"), Owner: v.r.PostFormValue("owner"), Role: accounts.Role(v.r.PostFormValue("role")),
	}, &made)
	refused, isRefused := refusal(err)
	if err != nil && !isRefused {
		return err
	}
	p, err := v.keysPage()
	if err != nil {
		return err
	}
	return v.showKey("keys", refused, &p, made, &p)
}

// showKey shows a page with the key that was made on it, or why it was not.
func (v *visit) showKey(name string, refused *gate.Problem, on *keysPage, made gen.CreatedKey, page any) error {
	if refused != nil {
		on.Refusal = refused.Message
		return v.show(refused.Status, name, page)
	}
	on.Made = &made
	return v.show(http.StatusOK, name, page)
}

// revokeKey ends a key, and goes back to where it is listed.
func (v *visit) revokeKey() error {
	to := "/keys"
	if id := v.r.PostFormValue("organization"); id != "" {
		to = "/organizations/" + id
	}
	if err := v.send("DELETE", "/keys/"+v.r.PathValue("id"), nil, nil); err != nil {
		return err
	}
	return v.redirect(localPath(to) + "?done=revoked")
}
