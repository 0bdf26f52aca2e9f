package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/sinks"
)

func (s *fakeStore) PutCustomer(ctx context.Context, c sinks.Customer) error {
	return s.call(ctx, func() error {
		if _, err := s.find(c.Organization); err != nil {
			return err
		}
		if there, ok := s.customers[c.ExternalID]; ok && there.Organization != c.Organization {
			return &fault.FieldError{Field: "external_id", Rule: "must not be that of another organization"}
		}
		s.customers[c.ExternalID] = c
		return nil
	})
}

func TestPutCustomer(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["free"].String() + "/customers/"
	put := r.do("finance", "PUT", at+"stripe", `{"external_id":"cus_1"}`)
	require.Equal(t, http.StatusOK, put.Code)
	require.Equal(t, map[string]any{
		"organization_id": r.organizations["free"].String(), "sink": "stripe", "external_id": "cus_1",
	}, put.json())

	for _, tt := range []struct{ path, body, field string }{
		{at + "elsewhere", `{"external_id":"cus_1"}`, "sink"},
		{at + "stripe", `{"external_id":""}`, "external_id"},
		{at + "stripe", `{"external_id":"cus 1"}`, "external_id"},
		{at + "stripe", `{"external_id":"` + strings.Repeat("x", 256) + `"}`, "external_id"},
		{at + "stripe", `{}`, "external_id"},
		{strings.ReplaceAll(at, r.organizations["free"].String(), r.organizations["pro"].String()) + "stripe", `{"external_id":"cus_1"}`, "external_id"},
	} {
		require.Equal(t, tt.field, r.problem(400, "invalid_request", "admin", "PUT", tt.path, tt.body)["field"], tt.body)
	}
	r.problem(404, "not_found", "admin", "PUT", "/api/v1/organizations/"+uuid.NewString()+"/customers/stripe", `{"external_id":"cus_2"}`)
	r.problem(403, "forbidden", "free", "PUT", at+"stripe", `{"external_id":"cus_2"}`)
}
