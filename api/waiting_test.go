package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/meter"
)

// TestAnExportNamesWhomItWaitsFor holds that it is the live instances that are behind, who is
// furthest behind first, with what holds them up; and nobody in another stage.
func TestAnExportNamesWhomItWaitsFor(t *testing.T) {
	r := newRig(t)
	e := anExport(t)
	since := e.Cut.Add(-30 * time.Hour)
	numbered := func(n int, status meter.InstanceStatus, watermark time.Time) meter.Instance {
		return meter.Instance{ID: uuid.UUID{15: byte(n)}, Host: fmt.Sprintf("api-%d", n), Status: status, Watermark: watermark, SeenAt: noon}
	}
	held := numbered(3, meter.InstanceLive, since)
	held.Open = meter.OpenUsage{Count: 2, Since: since, Organization: r.organizations["pro"], Meter: "evaluations"}
	r.store.instances = []meter.Instance{
		numbered(1, meter.InstanceLive, e.Cut), numbered(2, meter.InstanceLive, e.Cut.Add(-time.Microsecond)), held,
		numbered(4, meter.InstanceLost, since), numbered(5, meter.InstanceStopped, since),
	}
	waitingFor := func(stage billing.Stage) (list *[]billing.AwaitedInstance) {
		r.store.exports = []billing.Export{at(e, stage)}
		r.workflows.progress = ExportProgress{Stage: stage}
		a := r.do("finance", "GET", octoberPath, "")
		require.Equal(t, http.StatusOK, a.Code, a.Body)
		var answer struct {
			WaitingFor *[]billing.AwaitedInstance `json:"waiting_for"`
		}
		require.NoError(t, json.Unmarshal(a.Body.Bytes(), &answer))
		return answer.WaitingFor
	}
	require.Equal(t, &[]billing.AwaitedInstance{
		{Instance: held.ID, Host: "api-3", Watermark: since, SeenAt: noon, Open: 2, OpenSince: since, OpenOrganization: r.organizations["pro"], OpenMeter: "evaluations"},
		{Instance: uuid.UUID{15: 2}, Host: "api-2", Watermark: e.Cut.Add(-time.Microsecond), SeenAt: noon},
	}, waitingFor(billing.StageWaiting))
	require.Nil(t, waitingFor(billing.StageRollups))

	r.store.instances = r.store.instances[:1]
	require.Equal(t, &[]billing.AwaitedInstance{}, waitingFor(billing.StageWaiting), "nobody any more")
	for range 30 {
		r.store.instances = append(r.store.instances, held)
	}
	require.Len(t, *waitingFor(billing.StageWaiting), 20)
}
