package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

func exportPath(period calendar.Period) string { return "/api/v1/billing/exports/" + period.String() }

// exportName is how errors name an export that was asked for so.
func exportName(period calendar.Period, revision *int) string {
	if revision == nil {
		return period.String()
	}
	return billing.RevisionName(period, *revision)
}

func periodOf(text string) (calendar.Period, error) {
	period, err := calendar.ParsePeriod(text)
	if err != nil {
		return calendar.Period{}, invalid("period", "must be a month of the form YYYY-MM, 2000-01 or later; %q is not", text)
	}
	return period, nil
}

// optionError names the field that a rule of the domain is about: it is the first word of
// the rule's text.
func optionError(group string, err error) error {
	field, rule, _ := strings.Cut(err.Error(), " ")
	return invalid(group+"."+strings.TrimPrefix(field, group+"."), "%s", rule)
}

func (s *Server) temporalURL(workflowID, runID string) *string {
	if at := s.config.TemporalURL(workflowID, runID); at != "" {
		return &at
	}
	return nil
}

// ListExports answers with a page of exports, the newest first.
func (s *Server) ListExports(ctx context.Context, request gen.ListExportsRequestObject) (gen.ListExportsResponseObject, error) {
	ctx = requestContext(ctx)
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	found, err := readPage(request.Params.Before, limit, func(before uuid.UUID, limit int) ([]billing.Export, error) {
		return s.config.Store.Exports(ctx, before, limit)
	}, func(e billing.Export) uuid.UUID { return e.ID })
	return gen.ListExports200JSONResponse{Exports: answersOf(found.items, s.exportAnswer), Next: found.next}, err
}

// GetExport answers with a period's export, and with what its run does now.
func (s *Server) GetExport(ctx context.Context, request gen.GetExportRequestObject) (gen.GetExportResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.exportOf(ctx, request.Period, request.Params.Revision)
	if err != nil {
		return nil, err
	}
	out := s.exportAnswer(found)
	counts, err := s.config.Store.RatingCounts(ctx, found.ID)
	if err != nil {
		return nil, err
	}
	out.Counts = &counts
	if !found.Stage.Ended() {
		out.Progress = s.progress(ctx, found.Period)
	}
	if found.Stage == billing.StageWaiting {
		waiting, err := s.awaited(ctx, found.Cut)
		if err != nil {
			return nil, err
		}
		out.WaitingFor = &waiting
	}
	return gen.GetExport200JSONResponse(out), nil
}

// maxAwaited bounds how many instances an export names.
const maxAwaited = 20

// awaited returns the live instances that have not flushed up to a cut, who is furthest behind first.
func (s *Server) awaited(ctx context.Context, cut time.Time) ([]billing.AwaitedInstance, error) {
	instances, err := s.config.Store.InstancesSince(ctx, s.config.Now())
	furthest := slices.SortedStableFunc(slices.Values(instances), func(a, b meter.Instance) int { return a.Watermark.Compare(b.Watermark) })
	out := []billing.AwaitedInstance{}
	for _, i := range furthest {
		if i.Status == meter.InstanceLive && i.Watermark.Before(cut) && len(out) < maxAwaited {
			out = append(out, billing.AwaitedInstance{
				Instance: i.ID, Host: i.Host, Watermark: i.Watermark.UTC(), SeenAt: i.SeenAt.UTC(),
				Open: i.Open.Count, OpenSince: i.Open.Since.UTC(), OpenOrganization: i.Open.Organization, OpenMeter: i.Open.Meter,
			})
		}
	}
	return out, err
}

// progress asks the run. The export's own stage is answer enough where it can't say.
func (s *Server) progress(ctx context.Context, period calendar.Period) *gen.Progress {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	now, err := s.config.Workflows.ExportProgress(ctx, period)
	if err != nil {
		if !errors.Is(err, ErrNotRunning) {
			s.config.Logger.WarnContext(ctx, "Export could not be asked for its progress", "period", period, "error", err)
		}
		return nil
	}
	return &gen.Progress{Stage: now.Stage, Note: now.Note, Done: now.Done, Total: now.Total}
}

func (s *Server) exportAnswer(e billing.Export) gen.Export {
	out := gen.Export{
		Id: e.ID, Period: e.Period.String(), WorkflowId: e.WorkflowID, RunId: e.RunID, Stage: e.Stage, Cut: e.Cut,
		Provisional: e.Provisional, RequestedBy: e.RequestedBy, RequestedAt: e.RequestedAt, FinishedAt: e.FinishedAt,
		StatusUrl: exportPath(e.Period), TemporalUrl: s.temporalURL(e.WorkflowID, e.RunID),
		Files: []gen.ExportFile{}, Manifest: e.Manifest, Revision: e.Revision, IssuedAt: e.IssuedAt,
	}
	if e.Reason != "" {
		out.Reason = &e.Reason
	}
	if e.Error != "" {
		out.Error = &e.Error
	}
	if e.Manifest == nil {
		return out
	}
	// The revision is in the address, so that it stays that of the same bytes.
	url := func(name string) string {
		return fmt.Sprintf("%s/files/%s?revision=%d", exportPath(e.Period), name, e.Revision)
	}
	for _, f := range e.Manifest.Files {
		out.Files = append(out.Files, gen.ExportFile{Name: f.Name, Url: url(f.Name), Sha256: &f.SHA256, Bytes: &f.Bytes, Rows: &f.Rows})
	}
	out.Files = append(out.Files, gen.ExportFile{Name: documents.ManifestFile, Url: url(documents.ManifestFile)})
	return out
}

// DownloadExportFile answers with the bytes of a file that the manifest names, or of
// the manifest itself.
func (s *Server) DownloadExportFile(ctx context.Context, request gen.DownloadExportFileRequestObject) (gen.DownloadExportFileResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.exportOf(ctx, request.Period, request.Params.Revision)
	if err != nil {
		return nil, err
	}
	if found.Manifest == nil {
		return nil, errNotYetWritten
	}
	absent := billing.ErrFileNotFound.Of(fmt.Sprintf("%q in export %s", request.Name, exportName(found.Period, request.Params.Revision)))
	file, ok := fileOf(found, request.Name)
	if !ok {
		return nil, absent
	}
	content, err := s.config.Blobs.Open(ctx, found.Folder()+file.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, absent
	}
	if err != nil {
		return nil, err
	}
	return download{period: found.Period, file: file, content: content}, nil
}

// fileOf finds a file by its name: only what the manifest names can be had.
func fileOf(e billing.Export, name string) (file billing.File, ok bool) {
	for _, f := range e.Manifest.Files {
		if f.Name == name {
			return f, true
		}
	}
	return billing.File{Name: documents.ManifestFile}, name == documents.ManifestFile
}

// download is the answer with a file.
type download struct {
	period  calendar.Period
	file    billing.File
	content io.ReadCloser
}

// VisitDownloadExportFileResponse writes the answer.
func (d download) VisitDownloadExportFileResponse(w http.ResponseWriter) error {
	allowLongAnswer(w)
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="tollgate-%s-%s"`, d.period, d.file.Name))
	if d.file.SHA256 != "" {
		header.Set("ETag", `"`+d.file.SHA256+`"`)
		header.Set("Content-Length", strconv.FormatInt(d.file.Bytes, 10))
	}
	w.WriteHeader(http.StatusOK)
	_, err := io.Copy(w, d.content)
	return errors.Join(err, d.content.Close())
}
