package documents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// Issued is the note, beside the files of exports, of what a revision of a period was issued
// with. It outlives a database that goes back in time: numbers of statements that were
// issued are never given other content, also where the database doesn't know of them.
type Issued struct {
	Export   uuid.UUID       `json:"export"`
	Period   calendar.Period `json:"period"`
	Revision int             `json:"revision"`
	Files    []billing.File  `json:"files"`
}

// NewIssued returns the note of an export.
func NewIssued(e billing.Export) Issued {
	issued := Issued{Export: e.ID, Period: e.Period, Revision: e.Revision, Files: []billing.File{}}
	if e.Manifest != nil {
		issued.Files = append(issued.Files, e.Manifest.Files...)
	}
	return issued
}

// Name returns where the note is in the blob store: "exports/2026-10/issued-1.json".
func (i Issued) Name() string { return fmt.Sprintf("exports/%s/issued-%d.json", i.Period, i.Revision) }

// Encode returns the note as JSON.
func (i Issued) Encode() ([]byte, error) {
	document, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode what was issued: %w", err)
	}
	return append(document, '\n'), nil
}

// CheckIssued compares a note with one that is there already. They may be of one export, or
// have the same files; otherwise it fails with [billing.ErrIssuedOtherwise].
func (i Issued) CheckIssued(document []byte) error {
	var before Issued
	decoder := json.NewDecoder(bytes.NewReader(document))
	if err := decoder.Decode(&before); err != nil {
		return fmt.Errorf("%w: %s can't be read: %w", billing.ErrIssuedOtherwise, i.Name(), err)
	}
	if before.Export == i.Export || slices.Equal(before.Files, i.Files) {
		return nil
	}
	return fmt.Errorf("%w: %s is export %s of the blob store, and this one is %s",
		billing.ErrIssuedOtherwise, billing.RevisionName(i.Period, i.Revision), before.Export, i.Export)
}
