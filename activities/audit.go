package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"go.temporal.io/sdk/activity"

	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/calendar"
)

// AuditStore has the audit log and remembers which days of it have a digest.
type AuditStore interface {
	audit.Log
	// UndigestedDays returns the days that are over and have no digest yet, in their order, with the digest before them.
	UndigestedDays(ctx context.Context) (days []calendar.Day, previous string, err error)
	// PutDigest keeps the digest of a day, once it is in the blob store.
	PutDigest(ctx context.Context, d audit.Digest) error
}

// digestAudit writes the digests of the days of the audit log that are over to the blob store, where one who can change the
// database can't change them.
func (r *Rollup) digestAudit(ctx context.Context) error {
	if r.config.Audit == nil {
		return nil
	}
	days, previous, err := r.config.Audit.UndigestedDays(ctx)
	if err != nil {
		return err
	}
	for _, day := range days {
		d, err := audit.DigestOf(ctx, r.config.Audit, day, previous)
		if err != nil {
			return err
		}
		if err := r.writeDigest(ctx, d); err != nil {
			return err
		}
		if err := r.config.Audit.PutDigest(ctx, d); err != nil {
			return err
		}
		previous = d.Digest
	}
	return nil
}

// writeDigest writes the file of a digest. One that is there is not replaced: where it says the same, an attempt before has
// written it; where it doesn't, somebody has changed the entries, or the database went back in time, and both are kept.
func (r *Rollup) writeDigest(ctx context.Context, d audit.Digest) error {
	name := d.File()
	written, err := audit.ReadFile(ctx, r.config.Blobs, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case written == d:
		return nil
	default:
		activity.GetLogger(ctx).Error("The digest of a day of the audit log is there already, and another one: both are kept", "day", d.Day)
		name = d.OtherFile()
	}
	content, err := d.Encode()
	if err != nil {
		return err
	}
	file, err := r.config.Blobs.NewWriter(ctx, name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}
