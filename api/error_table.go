package api

import (
	"errors"
	"net/http"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/webhooks"
)

// errorAnswer is how a sentinel is answered.
type errorAnswer struct {
	err    error
	status int
	code   string
	// says makes the problem in place of the sentinel's own text as a sentence; nil: that. What a
	// store has put around a sentinel is not for the caller.
	says func(err error, a *errorAnswer) *gate.Problem
}

// errorAnswers are the sentinels that reach a caller. A test holds that none is forgotten.
var errorAnswers = []errorAnswer{
	{errContractEnded, http.StatusForbidden, accounts.CodeContractEnded, nil},
	{errUnauthorized, http.StatusUnauthorized, gate.CodeUnauthorized, noKey},
	{errWrongRole, http.StatusForbidden, codeForbidden, nil},
	{errWrongTenant, http.StatusForbidden, codeForbidden, nil},
	{errNotJSON, http.StatusUnsupportedMediaType, codeUnsupportedMediaType, whole},
	{errNotBatch, http.StatusUnsupportedMediaType, codeUnsupportedMediaType, whole},
	{errEncoding, http.StatusUnsupportedMediaType, codeUnsupportedMediaType, whole},
	{errNotYetWritten, http.StatusConflict, codeConflict, nil},
	{errWebhookDisabled, http.StatusConflict, codeConflict, nil},
	{errOverloaded, http.StatusServiceUnavailable, gate.CodeOverloaded, overloaded},
	{errTooManyUnderWay, http.StatusTooManyRequests, codeTooManyUnderWay, nil},
	{errTooManyUnknownKeys, http.StatusTooManyRequests, codeTooManyUnknownKeys, nil},
	{errKeyUnconfirmed, http.StatusServiceUnavailable, codeUnavailable, away},
	{ErrNotRunning, http.StatusConflict, codeConflict, nil},
	{ErrWorkflowsAway, http.StatusServiceUnavailable, codeUnavailable, away},

	{accounts.ErrSecondPerson, http.StatusForbidden, CodeSelfApproval, fromRoot},
	{accounts.ErrNoActor, http.StatusForbidden, CodeNoActor, fromRoot},
	{accounts.ErrProposalDecided, http.StatusConflict, codeConflict, nil},
	{accounts.ErrCurrencyFixed, http.StatusConflict, codeConflict, nil},
	{accounts.ErrWriteReused, http.StatusUnprocessableEntity, codeKeyReused, nil},
	{accounts.ErrWriteUnderWay, http.StatusConflict, codeUnderWay, nil},
	{billing.ErrCannotRate, http.StatusConflict, codeConflict, fromRoot},
	{billing.ErrCreditSpent, http.StatusConflict, codeConflict, nil},
	{billing.ErrExportEnded, http.StatusConflict, codeConflict, nil},
	{billing.ErrNotRated, http.StatusConflict, codeConflict, nil},
	{billing.ErrPeriodFinal, http.StatusConflict, codeConflict, nil},
	{gate.ErrBodyStalled, http.StatusRequestTimeout, gate.CodeBodyStalled, stalled},
	{meter.ErrContractEnded, http.StatusForbidden, gate.CodeContractEnded, contractEnded},
	{meter.ErrIdentityReused, http.StatusUnprocessableEntity, codeKeyReused, nil},
	{meter.ErrQuantityOverflow, http.StatusUnprocessableEntity, gate.CodeQuantityOverflow, overflow},
	{meter.ErrQuarantineDecided, http.StatusConflict, codeConflict, nil},
	{meter.ErrQuarantineRefused, http.StatusConflict, codeQuarantineRefused, fromRoot},
	{meter.ErrQuotaRefused, http.StatusServiceUnavailable, gate.CodeQuotaRefused, quotaRefused},
	{meter.ErrReservationEnded, http.StatusConflict, codeReservationEnded, nil},
	{meter.ErrTooManyIdentified, http.StatusServiceUnavailable, codeUnavailable, away},
	{meter.ErrUnavailable, http.StatusServiceUnavailable, codeUnavailable, away},
	{plans.ErrInvalidCatalog, http.StatusBadRequest, codeInvalidRequest, rule},
	{plans.ErrVersionPublished, http.StatusConflict, codeConflict, nil},
	{webhooks.ErrTooManyEndpoints, http.StatusConflict, codeConflict, nil},
}

func (a *errorAnswer) problem(err error) *gate.Problem {
	if a.says != nil {
		return a.says(err, a)
	}
	return gate.NewProblem(a.status, a.code, sentence(a.err))
}

// whole says all of an error that is made here.
func whole(err error, a *errorAnswer) *gate.Problem {
	return gate.NewProblem(a.status, a.code, sentence(err))
}

// fromRoot says what follows the sentinel in its text.
func fromRoot(err error, a *errorAnswer) *gate.Problem {
	return gate.NewProblem(a.status, a.code, sentence(errors.New(rootOf(err, a.err))))
}

// rule says which rule of a catalog is broken, as it is written.
func rule(err error, a *errorAnswer) *gate.Problem {
	return gate.NewProblem(a.status, a.code, rootOf(err, a.err))
}

func noKey(_ error, a *errorAnswer) *gate.Problem {
	return gate.NewProblem(a.status, a.code, "The request needs a key that works: Authorization: Bearer tg_…")
}

func overflow(error, *errorAnswer) *gate.Problem { return gate.OverflowProblem() }

func overloaded(error, *errorAnswer) *gate.Problem { return gate.Overloaded(http.Header{}) }

func quotaRefused(error, *errorAnswer) *gate.Problem { return gate.QuotaRefusedProblem() }

func stalled(error, *errorAnswer) *gate.Problem { return gate.StalledProblem() }

func contractEnded(error, *errorAnswer) *gate.Problem { return gate.ContractEndedProblem() }

// away says that the same request may succeed later.
func away(error, *errorAnswer) *gate.Problem {
	return gate.NewProblem(http.StatusServiceUnavailable, codeUnavailable, "A part that this needs is away. Try again.")
}

// rootOf returns the text of the part of an error that begins at root: without what
// a store has put around it.
func rootOf(err, root error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || !errors.Is(inner, root) || errors.Is(root, inner) {
			return err.Error()
		}
		err = inner
	}
}

// sentence makes an error's text one.
func sentence(err error) string {
	text := err.Error()
	if text[0] >= 'a' && text[0] <= 'z' {
		text = string(text[0]-'a'+'A') + text[1:]
	}
	return text + "."
}
