package gate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// A gate in front of a handler: two evaluations a day, and only those that succeed
// count.
func Example() {
	gin.SetMode(gin.ReleaseMode)
	// A real program gives the meter its database.
	m := meter.New(meter.Config{Store: metertest.OnPlan("tiny"), Catalog: &plans.Catalog{
		Meters: []plans.Meter{{Key: "evaluations", Aggregation: plans.Sum}},
		Plans: []plans.Plan{{Key: "tiny", Version: 1, Entitlements: []plans.Entitlement{
			{Meter: "evaluations", Mode: plans.Hard, Window: calendar.WindowDay, Max: 2},
		}}},
	}})
	rules, err := gate.NewRules([]gate.Rule{{Method: "POST", Path: "/evaluate/*", Meter: "evaluations"}})
	if err != nil {
		panic(err)
	}
	now := func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }
	tenant := uuid.MustParse("0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a01")

	router := gin.New()
	router.Use(gate.New(gate.Config{
		Meter:    m,
		Limiter:  gate.NewLimiter(),
		Classify: rules.Classify,
		Now:      now,
		// A real program takes the tenant from the request's credentials.
		Organization: func(c *gin.Context) (*meter.Organization, bool) {
			organization, err := m.Organization(c.Request.Context(), tenant, now())
			return organization, err == nil
		},
	}))
	router.POST("/evaluate/:model", func(c *gin.Context) {
		if c.Param("model") == "broken" {
			c.String(http.StatusInternalServerError, "model failed")
			return
		}
		c.String(http.StatusOK, "evaluated")
	})

	for _, model := range []string{"a", "broken", "b", "c"} {
		recorder := httptest.NewRecorder()
		router.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/evaluate/"+model, nil))
		fmt.Println(recorder.Code, recorder.Body)
	}
	// Output:
	// 200 evaluated
	// 500 model failed
	// 200 evaluated
	// 402 {"error":"plan_limit_exceeded","plan":"tiny","limit":"evaluations","current":2,"held":0,"max":2,"remaining":0,"upgrade_url":"/api/v1/organizations/0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a01/upgrade","message":"The plan's limit of evaluations is reached. Upgrade the plan, or wait for the next window.","type":"urn:tollgate:problem:plan_limit_exceeded","title":"Payment Required","status":402,"detail":"The plan's limit of evaluations is reached. Upgrade the plan, or wait for the next window."}
}
