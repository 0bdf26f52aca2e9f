package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/money"
)

// refusal returns what the API has refused, where that is for the person to mend: the form is shown again with it.
func refusal(err error) (*gate.Problem, bool) {
	var problem *gate.Problem
	ok := errors.As(err, &problem) && problem.Status < http.StatusInternalServerError && problem.Status != http.StatusUnauthorized
	return problem, ok
}

// after redirects where something was done. Where the API has refused it, again shows the form once more, with what it says.
func (v *visit) after(err error, to string, again func(refused *gate.Problem) error) error {
	refused, isRefused := refusal(err)
	switch {
	case isRefused:
		return again(refused)
	case err != nil:
		return err
	}
	return v.redirect(to)
}

// showPage shows what is read for a page.
func showPage[P any](v *visit, name string, read func() (P, error)) error {
	p, err := read()
	if err != nil {
		return err
	}
	return v.page(name, p)
}

// showAgain shows a page once more after a refusal, which refuse puts into it.
func showAgain[P any](v *visit, name string, read func() (P, error), refuse func(p *P, says string)) func(*gate.Problem) error {
	return func(refused *gate.Problem) error {
		p, err := read()
		if err != nil {
			return err
		}
		refuse(&p, refused.Message)
		return v.show(refused.Status, name, p)
	}
}

// given is a field of a form without space around it; nil where it is empty.
func (v *visit) given(field string) *string {
	text := strings.TrimSpace(v.r.PostFormValue(field))
	if text == "" {
		return nil
	}
	return &text
}

// pageAfter is the query of a page's next one.
func pageAfter(next *uuid.UUID) string {
	if next == nil {
		return ""
	}
	return next.String()
}

// notFound says that there is no such thing.
func notFound(what string) error {
	return gate.NewProblem(http.StatusNotFound, "not_found", "There is no "+what+".")
}

// file answers with a document as a file.
func (v *visit) file(name string, document any) error {
	body, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	v.w.Header().Set("Content-Type", "application/json")
	v.w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	_, _ = v.w.Write(append(body, '\n'))
	return nil
}

// signedMoney is a difference.
type signedMoney struct {
	money.Amount
	Currency money.Currency
}

// More says that it is above zero, Less that it is below.
func (m signedMoney) More() bool { return m.Sign() > 0 }

// Less says that it is below zero.
func (m signedMoney) Less() bool { return m.Sign() < 0 }

func difference(a, b money.Amount, c money.Currency) signedMoney {
	return signedMoney{money.NewAmount(a.Sub(b.Decimal), c), c}
}
