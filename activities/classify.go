package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
)

// The types of errors that are not tried again. They are part of the contract with
// workflows and operators: a type never changes its name.
const (
	// TypeInvalidInput is an activity's input that breaks a rule.
	TypeInvalidInput = "InvalidInput"
	// TypeInvalidUsage is usage that can't be written as a document.
	TypeInvalidUsage = "InvalidUsage"
	// TypeInvalidManifest is a manifest that breaks a rule.
	TypeInvalidManifest = "InvalidManifest"
	// TypeRowsDropped is a day or a period whose batch rows were dropped.
	TypeRowsDropped = "RowsDropped"
	// TypeUnknownInstance is an instance that was never registered.
	TypeUnknownInstance = "UnknownInstance"
	// TypeNotFound is anything else that isn't there: the text says what.
	TypeNotFound = "NotFound"
	// TypeSequenceGap is a batch that is not the next of its instance.
	TypeSequenceGap = "SequenceGap"
	// TypeExportNotFound, TypeExportEnded, TypeExportNotFrozen and TypePeriodFinal are
	// the errors of the same name in package billing.
	TypeExportNotFound  = "ExportNotFound"
	TypeExportEnded     = "ExportEnded"
	TypeExportNotFrozen = "ExportNotFrozen"
	TypePeriodFinal     = "PeriodFinal"
	// TypeNotClosed, TypeLaterPeriodClosed, TypeCorrectionsStale, TypeCreditChanged,
	// TypeProvisional and TypeInvalidStatement are those of the close.
	TypeNotClosed         = "NotClosed"
	TypeLaterPeriodClosed = "LaterPeriodClosed"
	TypeCorrectionsStale  = "CorrectionsStale"
	TypeIssuedOtherwise   = "IssuedOtherwise"
	TypeInvalidStatement  = "InvalidStatement"
	TypeCreditChanged     = "CreditChanged"
	TypeProvisional       = "Provisional"
	// TypeDrained is work for an instance that has been drained.
	TypeDrained = "Drained"
	// TypeNoSink is a delivery where the worker has no sink.
	TypeNoSink = "NoSink"
	// TypeNotIssued is a delivery of statements that are not issued, or were replaced.
	TypeNotIssued = "NotIssued"
	// TypeSelfApproval is a decision that takes a second person, and TypeNoActor one of somebody
	// who has no key that works.
	TypeSelfApproval = "SelfApproval"
	TypeNoActor      = "NoActor"
	// TypeDecidedBefore is a decision that was made already, on another run.
	TypeDecidedBefore = "DecidedBefore"
	// TypePermanent is any other failure that would come again: its own text says which.
	TypePermanent = "Permanent"
)

// TypeNothingFlushed, TypeWorkerStopping and TypeTurn are types of errors that are tried again.
const (
	// TypeNothingFlushed is an epoch in which no flush succeeded.
	TypeNothingFlushed = "NothingFlushed"
	// TypeWorkerStopping is work that another worker takes over.
	TypeWorkerStopping = "WorkerStopping"
	// TypeTurn is an attempt that waits until others of its organization have ended.
	TypeTurn = "Turn"
)

// errInvalidInput is the root of errors about an activity's input.
var errInvalidInput = errors.New("invalid input")

// errDrained says that an instance has been drained by the workflow that asks.
var errDrained = errors.New("the instance is drained")

// errNoSink says that the worker has no settings of a sink.
var errNoSink = errors.New("there is no sink: set TOLLGATE_STRIPE_KEY for the worker")

// permanent are the errors that would come again, with the type that each gets.
var permanent = []struct {
	err  error
	kind string
}{
	{errInvalidInput, TypeInvalidInput},
	{errDrained, TypeDrained},
	{accounts.ErrSecondPerson, TypeSelfApproval},
	{accounts.ErrNoActor, TypeNoActor},
	{billing.ErrDecidedBefore, TypeDecidedBefore},
	{documents.ErrInvalidUsage, TypeInvalidUsage},
	{documents.ErrInvalidManifest, TypeInvalidManifest},
	{billing.ErrExportNotFound, TypeExportNotFound},
	{billing.ErrExportEnded, TypeExportEnded},
	{billing.ErrRowsDropped, TypeRowsDropped},
	{billing.ErrExportNotFrozen, TypeExportNotFrozen},
	{billing.ErrPeriodFinal, TypePeriodFinal},
	{billing.ErrNotClosed, TypeNotClosed},
	{billing.ErrLaterPeriodClosed, TypeLaterPeriodClosed},
	{billing.ErrCorrectionsStale, TypeCorrectionsStale},
	{billing.ErrIssuedOtherwise, TypeIssuedOtherwise},
	{documents.ErrInvalidFocus, TypeInvalidStatement},
	{errNoSink, TypeNoSink},
	{billing.ErrCreditChanged, TypeCreditChanged},
	{billing.ErrProvisional, TypeProvisional},
	{billing.ErrNotIssued, TypeNotIssued},
	{meter.ErrUnknownInstance, TypeUnknownInstance},
	{meter.ErrSequenceGap, TypeSequenceGap},
	// The last one: it matches each kind of thing that isn't there.
	{fault.ErrNotFound, TypeNotFound},
}

// classify decides, for every activity, which failures are tried again. The domain's
// errors are not, nor is what says of itself that it isn't retryable (the stores'
// errors do); everything else is, and so is a context that ended.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var decided *temporal.ApplicationError
	if errors.As(err, &decided) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, known := range permanent {
		if errors.Is(err, known.err) {
			return temporal.NewNonRetryableApplicationError(err.Error(), known.kind, err)
		}
	}
	var asked fault.Retryable
	if errors.As(err, &asked) && !asked.Retryable() {
		return temporal.NewNonRetryableApplicationError(err.Error(), TypePermanent, err)
	}
	return err
}

// isPermanent reports whether what [classify] has decided on would come again.
func isPermanent(err error) bool {
	var decided *temporal.ApplicationError
	return errors.As(err, &decided) && decided.NonRetryable()
}

// missing says that a field of an activity's input is not there.
func missing(field string) error {
	return classify(fmt.Errorf("%w: %s is missing", errInvalidInput, field))
}

// handOver ends an activity because its worker stops, so that another one takes it.
func handOver(ctx context.Context) error {
	return temporal.NewApplicationErrorWithOptions(
		"the worker stops: another one takes over "+activity.GetInfo(ctx).ActivityType.Name, TypeWorkerStopping,
		temporal.ApplicationErrorOptions{NextRetryDelay: time.Second, Category: temporal.ApplicationErrorCategoryBenign},
	)
}
