package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

// GetBillingExport answers with the usage of all organizations (C8).
func (s *Server) GetBillingExport(ctx context.Context, request gen.GetBillingExportRequestObject) (gen.GetBillingExportResponseObject, error) {
	ctx = requestContext(ctx)
	from, to, err := dayRange(request.Params.From, request.Params.To)
	if err != nil {
		return nil, err
	}
	format, err := oneOf("format", request.Params.Format, "json", "csv")
	if err != nil {
		return nil, err
	}
	totals, err := s.config.Store.UsageRangeAll(ctx, from, to)
	if err != nil {
		return nil, err
	}
	if format == "csv" {
		return usageCSV{from: from, to: to, totals: totals}, nil
	}
	return gen.GetBillingExport200JSONResponse(documents.NewBillingExport(from, to, totals)), nil
}

// usageCSV writes the export as it goes, instead of holding it as text.
type usageCSV struct {
	from, to calendar.Day
	totals   []billing.UsageTotal
}

// VisitGetBillingExportResponse writes the answer.
func (u usageCSV) VisitGetBillingExportResponse(w http.ResponseWriter) error {
	allowLongAnswer(w)
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="tollgate-usage-%s-%s.csv"`, u.from, u.to))
	w.WriteHeader(http.StatusOK)
	out := documents.NewUsageCSVWriter(w)
	for _, t := range u.totals {
		if err := out.Write(t); err != nil {
			return err
		}
	}
	return out.Flush()
}
