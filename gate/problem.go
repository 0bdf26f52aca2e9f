package gate

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// The codes of the problems that a gate answers with. A code never changes its meaning.
const (
	// CodePlanLimitExceeded (402): a hard limit of the plan would be passed.
	CodePlanLimitExceeded = "plan_limit_exceeded"
	// CodeRateLimited (429): requests come faster than the plan's rate limit.
	CodeRateLimited = "rate_limited"
	// CodeQuantityOverflow (422): the sum of a day can't take the quantity.
	CodeQuantityOverflow = "quantity_overflow"
	// CodeContractEnded (403): the organization has no contract at this time.
	CodeContractEnded = "contract_ended"
	// CodeUnauthorized (401): nobody knows whose request it is.
	CodeUnauthorized = "unauthorized"
	// CodeNotMetered (404): no rule says what the request is charged for, and such
	// requests are refused.
	CodeNotMetered = "not_metered"
	// CodeInvalidPath (400): the path can be read in more than one way.
	CodeInvalidPath = "invalid_path"
	// CodeBodyTooLarge (413): the body is larger than the route takes.
	CodeBodyTooLarge = "body_too_large"
	// CodeUpstreamUnavailable (502) and CodeUpstreamTimeout (504): the upstream
	// couldn't be reached, or didn't answer in time.
	CodeUpstreamUnavailable = "upstream_unavailable"
	CodeUpstreamTimeout     = "upstream_timeout"
	// CodeBodyStalled (408): the request's body brought nothing for too long.
	CodeBodyStalled = "body_stalled"
	// CodeUnavailable (503): a part that this needs is away.
	CodeUnavailable = "unavailable"
	// CodeQuotaRefused (503): the database answers, and grants no quota of a hard limit.
	CodeQuotaRefused = "quota_refused"
	// CodeOverloaded (503): there is more to do than can be done.
	CodeOverloaded = "overloaded"
	// CodeInternal (500): a defect or a wrong configuration; the log has the details.
	CodeInternal = "internal_error"
)

// Headers that a gate sets.
const (
	// HeaderOverLimit is "true" on the answer to a request that passed a soft limit.
	HeaderOverLimit = "Tollgate-Over-Limit"
	// HeaderOrganization tells the upstream whose request it is.
	HeaderOrganization = "X-Tollgate-Organization"
	// HeaderRequestID identifies the request in logs. It is always ours.
	HeaderRequestID = "X-Request-Id"
	// HeaderCallerRequestID is the X-Request-Id that the caller sent: a word of its own, which
	// others may have used too.
	HeaderCallerRequestID = "X-Caller-Request-Id"
)

const (
	problemTypePrefix  = "urn:tollgate:problem:"
	problemContentType = "application/problem+json"
)

// Problem is an error answer: application/problem+json (RFC 9457) with a stable
// code beside the standard members.
type Problem struct {
	// Code is the stable code, the member "error".
	Code string `json:"error"`
	// Plan, Limit, Current, Held, Max, Remaining and UpgradeURL are members of a refusal by a
	// plan: the plan's key, the meter's key, the window's usage without the refused quantity,
	// what reservations hold beside it, the limit, what that leaves, and where a larger plan can
	// be had.
	Plan       string `json:"plan,omitempty"`
	Limit      string `json:"limit,omitempty"`
	Current    *int64 `json:"current,omitempty"`
	Held       *int64 `json:"held,omitempty"`
	Max        *int64 `json:"max,omitempty"`
	Remaining  *int64 `json:"remaining,omitempty"`
	UpgradeURL string `json:"upgrade_url,omitempty"`
	// Field names the field of the request that is at fault.
	Field string `json:"field,omitempty"`
	// Message says what happened, for people; it is the member "detail" too.
	Message string `json:"message"`
	// Type is a URI that stands for the code. [NewProblem] sets it.
	Type string `json:"type"`
	// Title is the status in words.
	Title string `json:"title"`
	// Status is the HTTP status.
	Status int `json:"status"`
	// Detail is Message, under the name that RFC 9457 gives it.
	Detail string `json:"detail"`
	// RequestID identifies the request in the server's log. Answers of 500 and above bear it.
	RequestID string `json:"request_id,omitempty"`
}

// Error returns the message: a problem is an error, and who answers the caller knows it by its
// type.
func (p *Problem) Error() string { return p.Message }

// NewProblem makes a problem with the members that every one has.
func NewProblem(status int, code, message string) *Problem {
	return &Problem{
		Code:    code,
		Message: message,
		Type:    problemTypePrefix + code,
		Title:   http.StatusText(status),
		Status:  status,
		Detail:  message,
	}
}

// limitProblem is the refusal by a hard limit (402).
func limitProblem(plan string, m plans.Meter, d plans.Decision, upgradeURL string) *Problem {
	p := NewProblem(http.StatusPaymentRequired, CodePlanLimitExceeded,
		"The plan's limit of "+m.Key+" is reached. Upgrade the plan, or wait for the next window.")
	p.Plan, p.Limit = plan, m.Key
	p.Current, p.Held, p.Max, p.Remaining = &d.Current, &d.Held, &d.Max, &d.Remaining
	p.UpgradeURL = upgradeURL
	return p
}

// rateProblem is the refusal by the rate limit (429).
func rateProblem() *Problem {
	return NewProblem(http.StatusTooManyRequests, CodeRateLimited,
		"Requests come faster than the plan's rate limit. Try again after the time in Retry-After. No quota was used.")
}

// Unavailable is the answer where usage can't be taken now, by the strict settings; it
// sets the header that goes with it.
func Unavailable(h http.Header) *Problem {
	h["Retry-After"] = []string{"1"}
	return NewProblem(http.StatusServiceUnavailable, CodeUnavailable,
		"Usage can't be counted safely at the moment, so nothing was counted. Try again.")
}

// QuotaRefused is the answer where the store answers, and grants no quota of a window; it sets the
// header that goes with it.
func QuotaRefused(h http.Header) *Problem {
	h["Retry-After"] = []string{"1"}
	return QuotaRefusedProblem()
}

// QuotaRefusedProblem is [QuotaRefused] without the header.
func QuotaRefusedProblem() *Problem {
	return NewProblem(http.StatusServiceUnavailable, CodeQuotaRefused,
		"The database refuses to say whether the limit has room, so nothing was counted. Try again; if it lasts, tell whoever operates this.")
}

// Overloaded is the answer where there is more to do than can be done; it sets the header that
// goes with it.
func Overloaded(h http.Header) *Problem {
	h["Retry-After"] = []string{"1"}
	return NewProblem(http.StatusServiceUnavailable, CodeOverloaded,
		"There is more to do than can be done at the moment. Nothing was counted. Try again after the time in Retry-After.")
}

// StalledProblem is the answer where a request's body brought nothing for too long (408).
func StalledProblem() *Problem {
	return NewProblem(http.StatusRequestTimeout, CodeBodyStalled, "The request's body brought nothing for too long. Nothing was counted.")
}

// OverflowProblem is the refusal of a quantity that the sum of its day can't take (422).
func OverflowProblem() *Problem {
	p := NewProblem(http.StatusUnprocessableEntity, CodeQuantityOverflow,
		"quantity "+meter.ErrQuantityOverflow.Error()+". Nothing was counted.")
	p.Field = "quantity"
	return p
}

// ContractEndedProblem is the refusal of usage by an organization without a contract (403).
func ContractEndedProblem() *Problem {
	return NewProblem(http.StatusForbidden, CodeContractEnded, "The organization has no contract at this time. Nothing was counted.")
}

// UpgradeURL is where an organization's plan is changed, relative to the API: the
// default of [Config.UpgradeURL].
func UpgradeURL(organization uuid.UUID) string {
	return "/api/v1/organizations/" + organization.String() + "/upgrade"
}

// Write answers with the problem. Nothing must have been written before.
func (p *Problem) Write(w http.ResponseWriter) {
	out := *p
	header := w.Header()
	if out.Status >= http.StatusInternalServerError {
		out.RequestID = header.Get(HeaderRequestID)
	}
	// A struct of strings and numbers can't fail to be encoded.
	body, _ := json.Marshal(out)
	header.Set("Content-Type", problemContentType)
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Del("Content-Encoding")
	w.WriteHeader(out.Status)
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write(body)
}

// abort answers with the problem that an enforcer's error is.
func abort(c *gin.Context, err error) {
	problem, ok := errors.AsType[*Problem](err)
	if !ok {
		problem = NewProblem(http.StatusInternalServerError, CodeInternal, "Something went wrong here.")
	}
	problem.Abort(c)
}

// Abort answers with the problem and keeps the handlers that follow from running.
func (p *Problem) Abort(c *gin.Context) {
	c.Abort()
	p.Write(c.Writer)
}
