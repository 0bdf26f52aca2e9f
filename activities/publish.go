package activities

import (
	"context"
	"errors"
	"io"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

// blobSet are files of which none is published before all are written. Where publishing
// one fails, those before it stay: without a manifest they don't count, and the next
// attempt replaces them.
type blobSet struct {
	ctx     context.Context
	cancel  context.CancelFunc
	blobs   Blobs
	writers []io.Closer
}

func newBlobSet(ctx context.Context, blobs Blobs) *blobSet {
	ctx, cancel := context.WithCancel(ctx)
	return &blobSet{ctx: ctx, cancel: cancel, blobs: blobs}
}

func (b *blobSet) open(name string) (io.Writer, error) {
	w, err := b.blobs.NewWriter(b.ctx, name)
	if err != nil {
		return nil, err
	}
	b.writers = append(b.writers, w)
	return w, nil
}

// end publishes the files, or discards them where something failed.
func (b *blobSet) end(failure error) error {
	defer b.cancel()
	if failure != nil {
		// With their context ended, closing discards; what that has to say adds nothing.
		b.cancel()
		for _, w := range b.writers {
			_ = w.Close()
		}
		return failure
	}
	var failures error
	for _, w := range b.writers {
		if err := w.Close(); err != nil {
			failures = errors.Join(failures, err)
			// The rest is discarded, too.
			b.cancel()
		}
	}
	return failures
}

// publish writes a file whole, or leaves none.
func publish(ctx context.Context, blobs Blobs, name string, write func(io.Writer) error) error {
	set := newBlobSet(ctx, blobs)
	w, err := set.open(name)
	if err == nil {
		err = write(w)
	}
	return set.end(err)
}

// publishManifest writes a manifest, and returns it as it reads back.
func publishManifest(ctx context.Context, blobs Blobs, name string, m billing.Manifest) (billing.Manifest, error) {
	document, err := documents.EncodeManifest(m)
	if err != nil {
		return m, err
	}
	parsed, err := documents.ParseManifest(document)
	if err != nil {
		return m, err
	}
	return parsed, publish(ctx, blobs, name, func(w io.Writer) error {
		_, err := w.Write(document)
		return err
	})
}
