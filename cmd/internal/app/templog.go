package app

import (
	"context"
	"log/slog"
)

// quietTemporal lowers what the Temporal SDK logs at info, a line or more for each
// workflow and activity, to debug.
func quietTemporal(logger *slog.Logger) *slog.Logger {
	return slog.New(quiet{logger.With("component", "temporal").Handler()})
}

type quiet struct{ slog.Handler }

// Enabled says what is logged once its level is lowered.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, lowered(level))
}

// Handle logs at the lowered level.
func (q quiet) Handle(ctx context.Context, record slog.Record) error {
	record.Level = lowered(record.Level)
	return q.Handler.Handle(ctx, record)
}

// WithAttrs keeps the lowering.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup keeps the lowering.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func lowered(level slog.Level) slog.Level {
	if level == slog.LevelInfo {
		return slog.LevelDebug
	}
	return level
}
