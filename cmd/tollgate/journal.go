package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter/journal"
)

type journalCommand struct {
	List journalList `cmd:"" help:"List the segments in a journal's folder, and what can be read of each."`
	Show journalShow `cmd:"" help:"Print the records of a segment as JSON, one a line."`
}

type journalList struct {
	format
	Folder string `arg:"" type:"existingdir" help:"The API's --journal-dir."`
}

// listedSegment is one line of `tollgate journal list`.
type listedSegment struct {
	Instance uuid.UUID `json:"instance"`
	Seq      int64     `json:"seq"`
	Records  int64     `json:"records"`
	Written  bool      `json:"written"`
	Cut      int64     `json:"cut_bytes"`
	Error    string    `json:"error,omitempty"`
	Path     string    `json:"path"`
}

// Run lists segments. A process that has the folder goes on meanwhile.
func (c journalList) Run(out *output) error {
	segments, err := journal.Segments(c.Folder)
	if err != nil {
		return err
	}
	listed := []listedSegment{}
	for _, segment := range segments {
		one := listedSegment{Instance: segment.ID.Instance, Seq: segment.ID.Seq, Written: segment.Written, Path: segment.Path}
		var summary journal.Summary
		for _, err := range journal.Read(segment, &summary) {
			if err != nil {
				one.Error = err.Error()
			}
		}
		one.Records, one.Cut = summary.Records, summary.Cut
		listed = append(listed, one)
	}
	return c.print(out, listed, "INSTANCE\tSEGMENT\tRECORDS\tWRITTEN\tCUT BYTES\tERROR", func(row func(...any)) {
		for _, s := range listed {
			row(s.Instance, s.Seq, s.Records, s.Written, s.Cut, s.Error)
		}
	})
}

type journalShow struct {
	File string `arg:"" type:"existingfile" help:"A segment's file."`
}

// shownRecord is one line of `tollgate journal show`.
type shownRecord struct {
	Organization uuid.UUID           `json:"organization_id"`
	Meter        string              `json:"meter"`
	Day          calendar.Day        `json:"day"`
	Quantity     int64               `json:"quantity"`
	At           time.Time           `json:"at"`
	Lease        calendar.WindowKind `json:"lease,omitempty"`
	Plan         string              `json:"plan,omitempty"`
	PlanVersion  int                 `json:"plan_version,omitempty"`
	Identity     string              `json:"identity,omitempty"`
}

// Run prints what can be read. Damage ends it with an error, after the records before it.
func (c journalShow) Run(out *output) error {
	segments, err := journal.Segments(filepath.Dir(c.File))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(segments, func(s journal.Segment) bool { return filepath.Base(s.Path) == filepath.Base(c.File) })
	if i < 0 {
		return fmt.Errorf("%s is not named as a journal segment: <instance>-<sequence>.journal or .written", c.File)
	}
	encoder := json.NewEncoder(out)
	var summary journal.Summary
	for record, err := range journal.Read(segments[i], &summary) {
		if err != nil {
			return err
		}
		line := shownRecord{
			Organization: record.Organization, Meter: record.Meter, Day: record.Day, Quantity: record.Quantity,
			At: time.Unix(0, record.At).UTC(), Lease: record.Lease,
			Plan: record.Plan, PlanVersion: record.PlanVersion,
		}
		if record.Identity != [16]byte{} {
			line.Identity = record.Identity.String()
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	if summary.Cut > 0 {
		_, _ = fmt.Fprintf(os.Stderr, "A torn tail of %d bytes follows: it had not been acknowledged.\n", summary.Cut)
	}
	return nil
}
