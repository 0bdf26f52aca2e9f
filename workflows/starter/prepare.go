package starter

import (
	"context"
	"errors"
	"log/slog"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
)

// Prepare makes what the workflows need of a namespace: search attributes and
// schedules. It returns the IDs of the schedules that it had to make or change. Search attributes that
// this client may not register are logged with what to do, and are no error: they may be there.
func Prepare(ctx context.Context, c client.Client, namespace string, logger *slog.Logger, codecs ...converter.PayloadCodec) ([]string, error) {
	err := EnsureSearchAttributes(ctx, c, namespace)
	if errors.Is(err, ErrSearchAttributes) {
		logger.Warn("Search attributes could not be registered", "error", err)
	} else if err != nil {
		return nil, err
	}
	return EnsureSchedules(ctx, c, codecs...)
}
