package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/riverline/tollgate/internal/config"
)

type codecServerCommand struct {
	config.Temporal
	Listen string `default:"127.0.0.1:8234" help:"Address of the codec server. Whoever reaches it reads all that is encrypted."`
	Origin string `default:"http://localhost:8233" help:"Origin of Temporal's UI, scheme://host:port: pages of others are refused."`
}

// Validate checks the settings.
func (c codecServerCommand) Validate() error {
	if c.TemporalKeys == "" {
		return errors.New("--temporal-keys is missing: what the API and the worker encrypt with")
	}
	return errors.Join(c.Temporal.Validate(), config.CheckListen("--listen", c.Listen), config.CheckHTTPURL("--origin", c.Origin))
}

// Run serves until the context ends.
func (c codecServerCommand) Run(ctx context.Context, out *output) error {
	codec, err := c.Codec()
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	server := &http.Server{Handler: codec.Handler(c.Origin), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if _, err := fmt.Fprintf(out, "The codec server is http://%s; Temporal's UI at %s may read there.\n", listener.Addr(), c.Origin); err != nil {
		return err
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the codec: %w", err)
	}
	return nil
}
