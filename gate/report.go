package gate

import (
	"context"
	"errors"
	"net/http"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// AdmitReport decides on a report that bears an identity, or a time of its own, and
// counts it; known is what [meter.Organization.Known] has returned. It sets the answer's
// headers. Where the plan or the rate limit says no, or usage can't be taken now, the error
// is the [*Problem] to answer with; any other one is [meter.ErrIdentityReused] or the
// context's.
//
// What is counted can't be taken back, so the rate-limit token comes first here
// ([Enforcer.PaceAhead]). A repeated report takes none where known has it.
func (e *Enforcer) AdmitReport(
	ctx context.Context, h http.Header, o *meter.Organization, r meter.Report, known meter.KnownSet,
) (meter.Outcome, error) {
	if _, repeated := known[r.Identity]; !repeated {
		if e.config.Meter.Refuses() != nil {
			return meter.Outcome{}, Unavailable(h)
		}
		if err := e.PaceAhead(h, o, r.Index, r.Quantity); err != nil {
			return meter.Outcome{}, err
		}
	}
	out, err := e.Report(ctx, o, r, known)
	if problem := undecided(h, err); problem != nil {
		return meter.Outcome{}, problem
	}
	if err != nil {
		return out, err
	}
	if !out.Decision.Allowed {
		return meter.Outcome{}, e.LimitProblem(o, r.Index, out.Plan, out.Decision)
	}
	if out.Decision.OverLimit {
		h[HeaderOverLimit] = overLimitValue
	}
	return out, nil
}

// undecided is the problem of what could not be decided on, with the headers that go with it;
// nil where the error, if any, is none of the meter's about that.
func undecided(h http.Header, err error) *Problem {
	switch {
	case errors.Is(err, meter.ErrQuotaRefused):
		return QuotaRefused(h)
	case errors.Is(err, meter.ErrUnavailable):
		return Unavailable(h)
	case errors.Is(err, meter.ErrQuantityOverflow):
		return OverflowProblem()
	case errors.Is(err, meter.ErrContractEnded):
		return ContractEndedProblem()
	default:
		return nil
	}
}

// Report decides on a report and counts it, without a rate-limit token: one that is part
// of a request that has taken its token with [Enforcer.Pace].
func (e *Enforcer) Report(ctx context.Context, o *meter.Organization, r meter.Report, known meter.KnownSet) (meter.Outcome, error) {
	out, err := o.ReportKnown(ctx, r, known)
	if d := out.Decision; err == nil && d.Allowed && d.OverLimit && !out.Duplicate {
		e.flag(o, r.Index, out.Plan, d, out.Window)
	}
	return out, err
}

// Pace takes a rate-limit token of the time by [Config.Now], and sets the answer's headers. Where there is no token, the
// error is the [*Problem] to answer with.
func (e *Enforcer) Pace(h http.Header, o *meter.Organization) error {
	return e.pace(h, o, o.Plan().RateLimit, e.config.Now())
}

// PaceAhead is [Enforcer.Pace] for what can't be taken back once it is decided on. It
// takes no token where the quantity is refused by what is in memory: then the plan is
// what the caller must be told of, and it costs nothing. A quantity that is refused only
// later, for a day that has passed or by what other instances hold, has cost its token.
func (e *Enforcer) PaceAhead(h http.Header, o *meter.Organization, i meter.Index, quantity int64) error {
	usage := o.Usage(i, e.config.Now())
	if !plans.Decide(usage.Meter.Aggregation, usage.Entitlement, usage.Current, usage.Held, quantity).Allowed {
		return nil
	}
	return e.Pace(h, o)
}

// LimitProblem is the refusal of a quantity by a hard limit.
func (e *Enforcer) LimitProblem(o *meter.Organization, i meter.Index, plan string, d plans.Decision) *Problem {
	return limitProblem(plan, e.config.Meter.Catalog().Meters[i], d, e.config.UpgradeURL(o.ID()))
}
