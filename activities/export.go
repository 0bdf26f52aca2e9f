package activities

import (
	"context"
	"io"
)

// ExportStore keeps exports, from their frozen usage to their statements.
type ExportStore interface {
	ExportRunStore
	ExportRatingStore
	ExportDocumentStore
	ExportDecisionStore
}

// Blobs keeps files.
type Blobs interface {
	// NewWriter returns a writer of a file. Close publishes the file, or discards it
	// where ctx has ended.
	NewWriter(ctx context.Context, name string) (io.WriteCloser, error)
	// Open opens a file; fs.ErrNotExist where there is none.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// ExportConfig is what an [Export] is made from.
type ExportConfig struct {
	// Store keeps the exports. Required.
	Store ExportStore
	// Blobs keeps the files. Required.
	Blobs Blobs
	// Program is the version of the program, for the manifest. Required.
	Program string
	// PageSize is how many organizations are read at a time where their usage is written.
	// Zero: 1,000.
	PageSize int
	// BatchSize is how many organizations are rated in one transaction, and how many
	// statements are read at a time. Zero: 500.
	BatchSize int
	// AllowSelfApproval lets who requested an export approve it, where the run allows that, too. False:
	// a second person has to, whatever the run was started with.
	AllowSelfApproval bool
}

// Export has the activities of an export, from its begin to the close of its period.
type Export struct{ config ExportConfig }

// NewExport makes the activities of an export. It panics where a required field of
// the config is missing.
func NewExport(config ExportConfig) *Export {
	if config.Store == nil || config.Blobs == nil || config.Program == "" {
		panic("activities: ExportConfig.Store, Blobs and Program are required")
	}
	if config.PageSize == 0 {
		config.PageSize = 1000
	}
	if config.BatchSize == 0 {
		config.BatchSize = 500
	}
	return &Export{config: config}
}
