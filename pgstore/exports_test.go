package pgstore_test

import (
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
)

// beginExport begins a final export of a period.
func (f *fixture) beginExport(period billing.Period, run string) billing.Export {
	f.t.Helper()
	begun, existing, err := f.BeginExport(f.t.Context(), billing.Export{
		ID:          uuid.Must(uuid.NewV7()),
		Period:      period,
		WorkflowID:  "export/" + period.String(),
		RunID:       run,
		Cut:         period.End(),
		RequestedBy: "test",
		RequestedAt: period.End(),
	})
	require.NoError(f.t, err)
	require.False(f.t, existing)
	return begun
}
