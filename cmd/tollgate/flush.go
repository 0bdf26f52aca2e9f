package main

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
)

type flushCommand struct {
	adminAccess
	format
	Instance *uuid.UUID `arg:"" optional:"" help:"The instance. Default: every live one." of:"instance"`
}

// flushed is one instance's answer.
type flushed struct {
	Instance uuid.UUID `json:"instance"`
	meter.FlushSummary
}

// Run flushes.
func (c flushCommand) Run(ctx context.Context, out *output) error {
	var list struct {
		Instances []meter.Instance `json:"instances"`
	}
	if c.Instance != nil {
		list.Instances = []meter.Instance{{ID: *c.Instance, Status: meter.InstanceLive}}
	} else if err := c.client().call(ctx, http.MethodGet, path("instances"), nil, &list); err != nil {
		return err
	}
	done := []flushed{}
	for _, i := range list.Instances {
		if i.Status != meter.InstanceLive {
			continue
		}
		one := flushed{Instance: i.ID}
		if err := c.client().call(ctx, http.MethodPost, path("instances", i.ID.String(), "flush"), nil, &one.FlushSummary); err != nil {
			return err
		}
		done = append(done, one)
	}
	return c.print(out, done, "INSTANCE\tBATCH\tROWS\tWATERMARK", func(row func(...any)) {
		for _, f := range done {
			row(f.Instance, f.Seq, f.Rows, f.Watermark.Format(time.RFC3339))
		}
	})
}
