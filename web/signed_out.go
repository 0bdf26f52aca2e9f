package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/riverline/tollgate/gate"
)

var errSignedOut = errors.New("signed out")

var errOtherSite = gate.NewProblem(http.StatusForbidden, "forbidden",
	"The form comes from another page, or from before you signed in. Load its page again, and send it again. Nothing was done.")

// errOlderForm is a form of ours that was made for a sign-in before the one that is open.
var errOlderForm = errors.New("the form is from before the sign-in")

// unauthorized says that nobody is signed in, or not any more.
func unauthorized(err error) bool {
	var problem *gate.Problem
	return errors.Is(err, errSignedOut) || errors.As(err, &problem) && problem.Status == http.StatusUnauthorized
}

// signedOut asks who isn't signed in to do so. What somebody has typed isn't lost: a form is shown again to be sent, and a page
// that a script asks for stays where it is. A redirect would be followed by the script, and the sign-in's page put into a part.
func (v *visit) signedOut() error {
	v.forget()
	switch {
	case strings.Contains(v.r.Header.Get("Accept"), "text/event-stream"):
		return v.endWithNotice()
	case v.r.Header.Get("Hx-Request") != "":
		return v.noticeOnPage()
	case v.r.Method == http.MethodPost && v.fromHere():
		return v.showKept(http.StatusUnauthorized)
	case v.r.Method == http.MethodPost:
		return v.redirect("/sign-in")
	default:
		return v.redirect("/sign-in?next=" + url.QueryEscape(v.r.URL.RequestURI()))
	}
}

// olderForm shows a form again that was made for another sign-in, to be sent with this one.
func (v *visit) olderForm() error {
	if v.r.Header.Get("Hx-Request") != "" {
		return v.noticeOnPage()
	}
	return v.showKept(http.StatusForbidden)
}

// fromHere says that the browser vouches for a page of ours: one that is too old to say anything doesn't.
func (v *visit) fromHere() bool {
	origin, err := url.Parse(v.r.Header.Get("Origin"))
	return v.r.Header.Get("Sec-Fetch-Site") == "same-origin" || err == nil && origin.Host != "" && origin.Host == v.r.Host
}

// keptForm is a form that was not carried out, with what was typed.
type keptForm struct {
	// Action is where it goes.
	Action string
	Fields []keptField
}

// keptField is a field of one, Shown where a person gave it.
type keptField struct {
	Name, Value string
	Shown       bool
}

// showKept shows a form that came without a sign-in, or from before the one that is open: nothing was done, and nothing is lost.
func (v *visit) showKept(status int) error {
	kept := keptForm{Action: v.r.URL.RequestURI()}
	for name, values := range v.r.PostForm {
		if name == "form" {
			continue
		}
		for _, value := range values {
			kept.Fields = append(kept.Fields, keptField{name, value, name != "once" && value != ""})
		}
	}
	slices.SortStableFunc(kept.Fields, func(a, b keptField) int { return strings.Compare(a.Name, b.Name) })
	return v.show(status, "kept", kept)
}

// noticeOnPage puts a notice at the top of the page that has asked for a part of itself.
func (v *visit) noticeOnPage() error {
	next := ""
	if from, err := url.Parse(v.r.Header.Get("Hx-Current-Url")); err == nil {
		next = localPath(from.RequestURI())
	}
	h := v.w.Header()
	h.Set("Hx-Retarget", "#away")
	h.Set("Hx-Reselect", "#signed-out")
	h.Set("Hx-Reswap", "innerHTML")
	body, err := v.render("problem", "signed-out", next)
	if err != nil {
		return err
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = v.w.Write(body)
	return nil
}

// endWithNotice puts it in place of what a stream shows, and tells the browser not to ask again.
func (v *visit) endWithNotice() error {
	body, err := v.render("problem", "signed-out", localPath(strings.TrimSuffix(v.r.URL.Path, "/live")))
	if err != nil {
		return err
	}
	v.beginStream()
	// The browser may be gone; there is nobody left to tell.
	_ = v.event("over", body)
	return nil
}
