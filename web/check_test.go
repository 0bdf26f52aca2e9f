package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/gate"
)

// exportedAgain is an API in which a month is exported anew between two pages of its dry run.
type exportedAgain struct {
	API
	runs []string
}

func (e *exportedAgain) Ask(w http.ResponseWriter, _ *http.Request, _ accounts.SecretHash, _ string) {
	page := gen.DryRunPage{RunId: e.runs[0], Organizations: []billing.DryRunOrganization{rowOf(1, "USD")}}
	if e.runs = e.runs[1:]; len(e.runs) > 0 {
		next := uuid.New()
		page.Next = &next
	}
	_ = json.NewEncoder(w).Encode(page)
}

// A check says that its month was exported again meanwhile: what it adds up is of two runs otherwise.
func TestACheckNoticesAnotherRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		runs  []string
		looks int64
		err   error
	}{
		{[]string{"a"}, 1, nil},
		{[]string{"a", "a", "a"}, 3, nil},
		{[]string{"a", "b"}, 0, errExportedAgain},
		{[]string{"a", "a", "b"}, 0, errExportedAgain},
	} {
		v := &visit{
			pages: &Pages{config: Config{API: &exportedAgain{runs: tt.runs}}}, w: httptest.NewRecorder(),
			r: httptest.NewRequest(http.MethodPost, "/plans/pro", nil), now: time.Now(),
		}
		check, err := v.checkPlan(json.RawMessage(`{}`), gen.PlanPut{Key: "pro", Name: "Pro"}, gen.Plan{Key: "pro", Version: 1})
		require.ErrorIs(t, err, tt.err, "%v", tt.runs)
		if tt.err == nil {
			require.Empty(t, check.Note)
			require.Equal(t, tt.looks, check.Totals.Organizations)
		}
	}
}

// What is refused of the plans that are put is said of the fields of the draft, which has others between them.
func TestRefusalsAreOfTheDraft(t *testing.T) {
	t.Parallel()
	p := proposal{places: []int{1, 10}}
	d := draft{wrong: map[string]string{}}
	refused := gate.NewProblem(http.StatusBadRequest, "invalid_request", "invalid catalog: plans[1].price_books[0].minimum: -1 must be 0 or more\nplans[0].name: is empty")
	require.True(t, d.blame(p.inDraft(refused)))
	require.Equal(t, map[string]string{"plans[10].price_books[0].minimum": "-1 must be 0 or more", "plans[1].name": "is empty"}, d.wrong)
}
