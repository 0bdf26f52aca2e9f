package activities_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/meter"
)

// Every error of the domain ends an activity for good, with its own type.
func TestDomainErrorsAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	for kind, domain := range map[string]error{
		activities.TypeExportNotFound: billing.ErrExportNotFound.Of("2026-10"), activities.TypeExportEnded: billing.ErrExportEnded,
		activities.TypeNotFound:        billing.ErrStatementNotFound.Of("x"),
		activities.TypeExportNotFrozen: billing.ErrExportNotFrozen, activities.TypePeriodFinal: billing.ErrPeriodFinal,
		activities.TypeCreditChanged: billing.ErrCreditChanged, activities.TypeProvisional: billing.ErrProvisional,
		activities.TypeInvalidUsage: documents.ErrInvalidUsage, activities.TypeInvalidManifest: documents.ErrInvalidManifest,
		activities.TypeUnknownInstance: meter.ErrUnknownInstance.Of("x"), activities.TypeSequenceGap: meter.ErrSequenceGap,
		activities.TypePermanent: fmt.Errorf("freeze: %w", errCurse),
	} {
		s := &exports{err: fmt.Errorf("export x: %w", domain)}
		a := newExport(s, memory(t), 0)
		e := newEnvironment(t, a)
		for _, call := range []func() error{
			func() error {
				_, err := run[activities.BegunExport](t, e, a.BeginExport, activities.BeginExportInput{Period: october, Cut: now})
				return err
			},
			func() error {
				_, err := run[any](t, e, a.SetExportStage, activities.SetExportStageInput{})
				return err
			},
			func() error {
				_, err := run[activities.FreezeUsageResult](t, e, a.FreezeUsage, activities.FreezeUsageInput{})
				return err
			},
			func() error {
				_, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, activities.WriteUsageFileInput{Folder: folder})
				return err
			},
			func() error { _, err := run[any](t, e, a.FailExport, activities.FailExportInput{}); return err },
		} {
			requirePermanent(t, call(), kind, domain.Error())
		}
	}
}

// A context that ended says nothing about the call, whatever the store makes of it.
func TestAnEndedContextIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		s := &exports{err: errors.Join(errCurse, ended)}
		a := newExport(s, memory(t), 0)
		_, err := run[activities.FreezeUsageResult](t, newEnvironment(t, a), a.FreezeUsage, activities.FreezeUsageInput{})
		requireTriedAgain(t, err, ended.Error())
	}
}
