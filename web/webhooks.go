package web

import (
	"strings"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/events"
)

// webhooksPage lists endpoints, and takes another one.
type webhooksPage struct {
	Webhooks []gen.Webhook
	// Kinds are all kinds of events.
	Kinds []events.Kind
	// Given is what was typed into the form, Refusal why it was refused.
	Given   gen.WebhookCreate
	Refusal string
	// Made is an endpoint that was made just now, with the secret that is shown this once.
	Made *gen.WebhookWithSecret
}

func (v *visit) webhooksPage() (webhooksPage, error) {
	var found gen.WebhookList
	err := v.get(&found, "/webhooks")
	return webhooksPage{Webhooks: found.Webhooks, Kinds: events.Kinds()}, err
}

func (v *visit) webhooks() error {
	return showPage(v, "webhooks", v.webhooksPage)
}

func (v *visit) addWebhook() error {
	given := gen.WebhookCreate{Url: strings.TrimSpace(v.r.PostFormValue("url")), Description: v.given("description")}
	kinds := []events.Kind{}
	for _, k := range v.r.PostForm["kind"] {
		kinds = append(kinds, events.Kind(k))
	}
	given.Kinds = &kinds
	var made gen.WebhookWithSecret
	err := v.send("POST", "/webhooks", given, &made)
	refused, isRefused := refusal(err)
	if err != nil && !isRefused {
		return err
	}
	p, err := v.webhooksPage()
	if err != nil {
		return err
	}
	if isRefused {
		p.Given, p.Refusal = given, refused.Message
		return v.show(refused.Status, "webhooks", p)
	}
	p.Made = &made
	return v.page("webhooks", p)
}

// webhookPage shows an endpoint with what was sent to it.
type webhookPage struct {
	Webhook    gen.Webhook
	Deliveries []gen.Delivery
	// Next leads to the deliveries before these; empty at the end.
	Next    string
	Refusal string
	// Rotated says that a secret was made just now; Secret is shown this once.
	Secret  string
	Rotated bool
}

// SecretGone says that a secret was made, and shown in an answer before this one.
func (p webhookPage) SecretGone() bool { return p.Rotated && p.Secret == "" }

func (v *visit) webhookPage() (webhookPage, error) {
	var p webhookPage
	path := "/webhooks/" + v.r.PathValue("id")
	if err := v.get(&p.Webhook, path); err != nil {
		return p, err
	}
	var found gen.DeliveryPage
	err := v.get(&found, path+"/deliveries", "limit", "50", "before", v.r.URL.Query().Get("before"))
	p.Deliveries, p.Next = found.Deliveries, pageAfter(found.Next)
	return p, err
}

func (v *visit) webhook() error {
	return showPage(v, "webhook", v.webhookPage)
}

// changeWebhook does what a button of an endpoint's page says.
func (v *visit) changeWebhook() error {
	path := "/webhooks/" + v.r.PathValue("id")
	var changed gen.WebhookWithSecret
	var err error
	switch v.r.PostFormValue("do") {
	case "remove":
		if err = v.send("DELETE", path, nil, nil); err == nil {
			return v.redirect("/webhooks?done=removed")
		}
	case "rotate":
		err = v.send("POST", path+"/rotate", nil, &changed)
	case "disable", "enable":
		disabled := v.r.PostFormValue("do") == "disable"
		if err = v.send("PATCH", path, gen.WebhookUpdate{Disabled: &disabled}, nil); err == nil {
			return v.redirect(path + "?done=changed")
		}
	default:
		return notFound("such button")
	}
	return v.webhookAfter(err, changed.Secret)
}

func (v *visit) redeliver() error {
	path := "/webhooks/" + v.r.PathValue("id")
	err := v.send("POST", path+"/deliveries/"+v.r.PathValue("event")+"/redeliver", nil, nil)
	if err == nil {
		return v.redirect(path + "?done=redeliver")
	}
	return v.webhookAfter(err, nil)
}

// webhookAfter shows an endpoint after what was asked of it.
func (v *visit) webhookAfter(err error, secret *string) error {
	refused, isRefused := refusal(err)
	if err != nil && !isRefused {
		return err
	}
	p, err := v.webhookPage()
	if err != nil {
		return err
	}
	if isRefused {
		p.Refusal = refused.Message
		return v.show(refused.Status, "webhook", p)
	}
	p.Rotated = true
	if secret != nil {
		p.Secret = *secret
	}
	return v.page("webhook", p)
}
