package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/webhooks"
)

// The codes of problems, besides those of package gate.
const (
	codeInvalidRequest       = "invalid_request"
	codeForbidden            = "forbidden"
	codeNotFound             = "not_found"
	codeMethodNotAllowed     = "method_not_allowed"
	codeConflict             = "conflict"
	codeUnsupportedMediaType = "unsupported_media_type"
	codeKeyReused            = "idempotency_key_reused"
	codeUnderWay             = "request_under_way"
	codeReservationEnded     = "reservation_ended"
	codeQuarantineRefused    = "quarantine_refused"
	codeCostLimited          = "cost_limited"
	codeRedeliveredTooOften  = "redelivered_too_often"
	codeTooManyUnderWay      = "too_many_under_way"
	codeTooManyUnknownKeys   = "too_many_unknown_keys"
	codeUnavailable          = gate.CodeUnavailable
)

// Errors that are this package's own.
var (
	errUnauthorized = errors.New("unauthorized")
	errWrongRole    = errors.New("the key's role may not do this")
	errWrongTenant  = errors.New("the key belongs to another organization")
	// errContractEnded says that a key is of an organization without a contract.
	errContractEnded = errors.New("the organization has no contract at this time: its keys don't work")
	errNotJSON       = errors.New("the body must be JSON: Content-Type: application/json")
	errNotBatch      = errors.New("the body must be reports or CloudEvents: Content-Type: application/json, application/cloudevents+json or application/cloudevents-batch+json")
	errNotYetWritten = errors.New("the export has no files yet")
	// errWebhookDisabled says that nothing is sent to an endpoint.
	errWebhookDisabled = errors.New("the endpoint is disabled: enable it first")
	// errTooManyUnderWay says that a caller has as many requests under way as it may have.
	errTooManyUnderWay = errors.New("too many requests of the caller are under way: wait for the answers to some of them")
	// errOverloaded says that a request was shed, before anything was done for it.
	errOverloaded = errors.New("there is more to do than can be done at the moment")
	// errKeyUnconfirmed says that nobody has confirmed for too long that a key works.
	errKeyUnconfirmed = errors.New("the key can't be confirmed at the moment")
	// errTooManyUnknownKeys says that an address has come with too many secrets that are no key's.
	errTooManyUnknownKeys = errors.New("too many keys from this address don't work: a key that isn't in memory is not looked up for now")
	errPanicked           = errors.New("the handler panicked")
)

// problemOf says how an error is answered: the one place where errors become HTTP. Errors
// with members come first, then [errorAnswers], then what passes. What isn't named here is a defect,
// and its details stay in the log.
func problemOf(err error) *gate.Problem {
	if p := typedProblem(err); p != nil {
		return p
	}
	for i := range errorAnswers {
		if a := &errorAnswers[i]; errors.Is(err, a.err) {
			return a.problem(err)
		}
	}
	var retryable fault.Retryable
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &retryable) && retryable.Retryable() {
		return away(err, nil)
	}
	return gate.NewProblem(http.StatusInternalServerError, gate.CodeInternal, "Something went wrong here. The log has the details under the request_id.")
}

// typedProblem answers errors that say more than which one they are; nil: it is none.
func typedProblem(err error) *gate.Problem {
	var refused *gate.Problem
	var field *fault.FieldError
	var absent *fault.NotFoundError
	var refusal *accounts.Refusal
	var tooLarge *batchLimitError
	var largeBody *bodyTooLargeError
	var misplaced *misplacedEventError
	var decision *RefusedDecision
	var cost *costLimitError
	var redelivered *webhooks.RedeliveredTooOftenError
	switch {
	case errors.As(err, &cost):
		return gate.NewProblem(http.StatusTooManyRequests, codeCostLimited, "The organization's requests cost more than they may. Try again after the time in Retry-After. Nothing was done.")
	case errors.As(err, &redelivered):
		return gate.NewProblem(http.StatusTooManyRequests, codeRedeliveredTooOften, sentence(redelivered))
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &decision):
		return decisionProblem(decision)
	case errors.As(err, &field):
		p := gate.NewProblem(http.StatusBadRequest, codeInvalidRequest, field.Error())
		p.Field = field.Field
		return p
	case errors.As(err, &refusal):
		return contractProblem(refusal)
	case errors.As(err, &largeBody):
		return gate.NewProblem(http.StatusRequestEntityTooLarge, gate.CodeBodyTooLarge, sentence(err))
	case errors.As(err, &tooLarge):
		return gate.NewProblem(http.StatusRequestEntityTooLarge, gate.CodeBodyTooLarge, sentence(err)+" Nothing was counted: send smaller ones.")
	case errors.As(err, &misplaced):
		return gate.NewProblem(http.StatusUnsupportedMediaType, codeUnsupportedMediaType, sentence(err))
	case errors.As(err, &absent):
		return gate.NewProblem(http.StatusNotFound, codeNotFound, "There is no "+absent.What()+".")
	default:
		return nil
	}
}

// decisionProblem says why a decision on an export may not be.
func decisionProblem(refused *RefusedDecision) *gate.Problem {
	status := http.StatusConflict
	switch refused.Code {
	case CodeSelfApproval, CodeNoActor:
		status = http.StatusForbidden
	case codeInvalidRequest:
		status = http.StatusBadRequest
	}
	return gate.NewProblem(status, refused.Code, sentence(refused))
}

// contractProblem says why a contract may not be changed so.
func contractProblem(refusal *accounts.Refusal) *gate.Problem {
	status := http.StatusConflict
	switch refusal.Code {
	case accounts.CodePlanNotSelfService, accounts.CodeLeavesNoSelfService, accounts.CodeEffectiveAtNotTaken, accounts.CodeScheduledByAdmin:
		status = http.StatusForbidden
	case accounts.CodePlanWithoutCurrency, accounts.CodeEffectiveAtPast, accounts.CodePeriodClosed, accounts.CodeOrganizationHasUsage:
		status = http.StatusUnprocessableEntity
	case accounts.CodeTooManyPlanChanges:
		status = http.StatusTooManyRequests
	}
	p := gate.NewProblem(status, refusal.Code, refusal.Message+".")
	switch refusal.Code {
	case accounts.CodePlanWithoutCurrency:
		p.Field = "plan"
	case accounts.CodeEffectiveAtPast, accounts.CodePeriodClosed, accounts.CodeOrganizationHasUsage, accounts.CodeEffectiveAtNotTaken:
		p.Field = "effective_at"
	}
	return p
}

// fail answers with an error, and logs what is ours: once.
func (s *Server) fail(c *gin.Context, err error) {
	if errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil {
		// The client is gone: there is nobody to answer. The status is for the log.
		c.Abort()
		c.Status(gate.StatusClientClosedRequest)
		return
	}
	p := problemOf(err)
	header := c.Writer.Header()
	switch p.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="tollgate"`)
	case http.StatusConflict:
		if p.Code == codeUnderWay {
			header.Set("Retry-After", "1")
		}
	case http.StatusTooManyRequests:
		// A problem of the gate's has set it.
		if wait := tooSoon(err); wait > 0 {
			header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
		}
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
		s.config.Logger.WarnContext(c.Request.Context(), "Request failed for now", s.describe(c, "error", err)...)
	case http.StatusInternalServerError:
		s.config.Logger.ErrorContext(c.Request.Context(), "Request failed", s.describe(c, "error", err)...)
	case http.StatusUnsupportedMediaType:
		if errors.Is(err, errEncoding) {
			refuseEncoding(header)
		}
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		// The rest of the body isn't worth reading.
		header.Set("Connection", "close")
	}
	if c.Writer.Written() {
		// Half an answer is out: break off, so that it isn't taken for a whole one.
		panic(http.ErrAbortHandler)
	}
	s.showProblem(c, p)
}

// tooSoon returns when a request that came too often may come again; zero: the error doesn't say.
func tooSoon(err error) time.Duration {
	var refusal *accounts.Refusal
	var cost *costLimitError
	var redelivered *webhooks.RedeliveredTooOftenError
	switch {
	case errors.Is(err, errTooManyUnderWay), errors.Is(err, errTooManyUnknownKeys):
		return time.Second
	case errors.As(err, &refusal):
		return refusal.RetryAfter
	case errors.As(err, &cost):
		return cost.retryAfter
	case errors.As(err, &redelivered):
		return redelivered.RetryAfter
	default:
		return 0
	}
}

// invalid says which field or parameter breaks which rule.
func invalid(field, rule string, args ...any) error {
	return &fault.FieldError{Field: field, Rule: fmt.Sprintf(rule, args...)}
}
