package api

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
)

func (s *fakeStore) StatementDeliveries(ctx context.Context, id uuid.UUID, sink string, state sinks.State, after uuid.UUID, limit int) ([]sinks.Delivery, error) {
	return ofClose(ctx, s, id, limit, func(c fakeClose) (found []sinks.Delivery) {
		for _, d := range c.deliveries {
			if d.Sink == sink && (state == "" || d.State == state) && d.Organization.String() > after.String() && len(found) < limit {
				found = append(found, d)
			}
		}
		return found
	})
}

func (s *fakeStore) StatementDeliveryCounts(ctx context.Context, id uuid.UUID, _ string, _, _ uuid.UUID) (sinks.Counts, error) {
	return ofClose(ctx, s, id, s.close.limit, func(c fakeClose) (counts sinks.Counts) {
		for _, d := range c.deliveries {
			if d.State == sinks.Delivered {
				counts.Delivered++
			} else {
				counts.Failed++
			}
		}
		return counts
	})
}

func (w *fakeWorkflows) DeliverExport(_ context.Context, d DeliveryRequest) (ExportRun, error) {
	w.asked = append(w.asked, "deliver "+d.Period.String()+" "+d.Export.String()+" by "+d.Actor.Name)
	return w.run, w.err
}

func TestListStatementDeliveries(t *testing.T) {
	r := newRig(t)
	first, second := revisions(t, r)
	a, b := uuid.UUID{15: 1}, uuid.UUID{15: 2}
	r.store.close = fakeClose{of: second.ID, deliveries: []sinks.Delivery{
		{Organization: a, OrganizationName: "A", Statement: "TG-1", Sink: sinks.Stripe, State: sinks.Delivered, ExternalID: "in_1", At: noon},
		{Organization: b, OrganizationName: "B", Statement: "TG-2", Sink: sinks.Stripe, State: sinks.Failed, Reason: "no such customer", Attempts: 2, At: noon},
	}}
	counts := `"counts":{"delivered":1,"no_customer":0,"nothing_due":0,"unchanged":0,"failed":1,"pending":0}`
	one := `{"organization_id":"` + a.String() + `","organization_name":"A","statement":"TG-1","sink":"stripe","state":"delivered","external_id":"in_1","at":"2026-11-24T12:00:00Z"}`
	two := `{"organization_id":"` + b.String() + `","organization_name":"B","statement":"TG-2","sink":"stripe","state":"failed","reason":"no such customer","attempts":2,"at":"2026-11-24T12:00:00Z"}`
	for query, want := range map[string]string{
		"":                             `"deliveries":[` + one + "," + two + `]`,
		"?state=failed":                `"deliveries":[` + two + `]`,
		"?state=pending":               `"deliveries":[]`,
		"?sink=stripe&revision=2":      `"deliveries":[` + one + "," + two + `]`,
		"?limit=1":                     `"deliveries":[` + one + `],"next":"` + a.String() + `"`,
		"?limit=2&after=" + a.String(): `"deliveries":[` + two + `]`,
	} {
		got := r.do("finance", "GET", octoberPath+"/deliveries"+query, "")
		require.Equal(t, http.StatusOK, got.Code, got.Body)
		require.JSONEq(t, `{"sink":"stripe",`+counts+`,`+want+`}`, got.Body.String(), query)
	}
	got := r.do("finance", "GET", octoberPath+"/deliveries?revision=1", "")
	require.Equal(t, http.StatusOK, got.Code, first.ID)
	require.JSONEq(t, `{"sink":"stripe","counts":{"delivered":0,"no_customer":0,"nothing_due":0,"unchanged":0,"failed":0,"pending":0},"deliveries":[]}`, got.Body.String())
	for query, field := range map[string]string{
		"?sink=elsewhere": "sink", "?state=lost": "state", "?after=x": "after", "?limit=0": "limit", "?revision=0": "revision",
	} {
		require.Equal(t, field, r.problem(400, "invalid_request", "finance", "GET", octoberPath+"/deliveries"+query, "")["field"], query)
	}
	r.problem(404, "not_found", "finance", "GET", "/api/v1/billing/exports/2026-09/deliveries", "")
}

// Only what counts is delivered: the statements of a closed period.
func TestDeliverExport(t *testing.T) {
	r := newRig(t)
	_, second := revisions(t, r)
	r.workflows.run = ExportRun{WorkflowID: "export/2026-10/deliver", RunID: "r", Started: true}
	got := r.do("finance", "POST", octoberPath+"/deliver", "")
	require.Equal(t, http.StatusAccepted, got.Code, got.Body)
	answer := got.json()
	require.Equal(t, "export/2026-10/deliver", answer["workflow_id"])
	require.Equal(t, octoberPath+"/deliveries", answer["status_url"])
	require.Len(t, r.workflows.asked, 1)
	require.Contains(t, r.workflows.asked[0], "deliver 2026-10 "+second.ID.String()+" by ")

	r.workflows.err = ErrWorkflowsAway
	require.Equal(t, http.StatusServiceUnavailable, r.do("finance", "POST", octoberPath+"/deliver", "").Code)
	for _, stage := range []billing.Stage{billing.StageApproving, billing.StageDelivering, billing.StageFailed, billing.StageDone} {
		r.store.exports = []billing.Export{at(anExport(t), stage)}
		r.problem(409, CodeNotAwaiting, "finance", "POST", octoberPath+"/deliver", "")
	}
	require.Len(t, r.workflows.asked, 2)
	r.problem(404, "not_found", "finance", "POST", "/api/v1/billing/exports/2026-09/deliver", "")
}
