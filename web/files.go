package web

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"net/http"
)

func (v *visit) monthFile() error {
	return v.pass("/billing/exports/" + v.r.PathValue("period") + "/files/" + v.r.PathValue("name"))
}

// monthFiles answers with all files of a month in one, as `tollgate export verify` takes them once they are unpacked.
func (v *visit) monthFiles() error {
	found, err := v.export()
	if err != nil {
		return err
	}
	if len(found.Files) == 0 {
		return notFound("file of " + found.Period + " yet")
	}
	folder := "tollgate-" + found.Period
	v.w.Header().Set("Content-Type", "application/zip")
	v.w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", folder+".zip"))
	packed := zip.NewWriter(v.w)
	for _, f := range found.Files {
		into, err := packed.Create(folder + "/" + f.Name)
		if err != nil {
			return v.cutOff(f.Name, err)
		}
		request, err := v.request(http.MethodGet, "/billing/exports/"+found.Period+"/files/"+f.Name, nil, nil)
		if err != nil {
			return v.cutOff(f.Name, err)
		}
		part := &passed{header: http.Header{}, body: into}
		v.pages.config.API.Ask(part, request, v.signIn.Secret, v.requestID())
		if part.err != nil || part.status != http.StatusOK {
			return v.cutOff(f.Name, fmt.Errorf("status %d: %w", part.status, part.err))
		}
	}
	return packed.Close()
}

// cutOff ends an answer that has begun so that nobody takes it for whole.
func (v *visit) cutOff(file string, err error) error {
	v.pages.config.Logger.ErrorContext(v.r.Context(), "Files could not be packed", "file", file, "request_id", v.requestID(), "error", err)
	panic(http.ErrAbortHandler)
}

// passed passes the body of an answer on.
type passed struct {
	header http.Header
	status int
	body   io.Writer
	err    error
}

// Header returns the answer's header.
func (p *passed) Header() http.Header { return p.header }

// WriteHeader takes the status, once.
func (p *passed) WriteHeader(status int) {
	if p.status == 0 {
		p.status = status
	}
}

// Write passes a part of the body on, unless it is a refusal's.
func (p *passed) Write(part []byte) (n int, err error) {
	p.WriteHeader(http.StatusOK)
	if p.status != http.StatusOK {
		return len(part), nil
	}
	n, err = p.body.Write(part)
	p.err = errors.Join(p.err, err)
	return n, err
}
