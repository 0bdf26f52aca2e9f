package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/riverline/tollgate/internal/demo"
	"github.com/riverline/tollgate/migrations"
	"github.com/riverline/tollgate/pgstore"
)

// prepareDatabase makes the database and its schema, and returns the URL under
// which the API role logs in.
func (s *devServers) prepareDatabase(ctx context.Context, c *devCommand) (string, error) {
	if s.postgres != nil {
		if err := s.postgres.CreateDatabase(ctx, "tollgate"); err != nil {
			return "", err
		}
	}
	if err := migrations.Up(ctx, s.ownerURL); err != nil {
		return "", err
	}
	password, err := c.password()
	if err != nil {
		return "", err
	}
	if err := migrations.EnableLogin(ctx, s.ownerURL, password); err != nil {
		return "", err
	}
	u, err := url.Parse(s.ownerURL)
	if err != nil {
		return "", errors.New("DATABASE_URL must be a URL of the form postgres://…")
	}
	u.User = url.UserPassword(migrations.APIRole, password)
	return u.String(), nil
}

// password returns the API role's password, which is made once and kept.
func (c *devCommand) password() (string, error) {
	path := filepath.Join(c.DataDir, "api-password")
	kept, err := os.ReadFile(path)
	if err == nil && len(kept) > 0 {
		return string(kept), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the API role's password: %w", err)
	}
	made := rand.Text()
	if err := os.WriteFile(path, []byte(made), 0o600); err != nil {
		return "", fmt.Errorf("keep the API role's password: %w", err)
	}
	return made, nil
}

// seed makes what dev.env names and the database lacks, and writes dev.env.
func (c *devCommand) seed(ctx context.Context, apiURL string) (demo.Env, []demo.Organization, error) {
	env, err := demo.ReadEnv(c.envFile())
	if err != nil {
		return nil, nil, err
	}
	store, err := pgstore.Open(ctx, pgstore.Config{URL: apiURL})
	if err != nil {
		return nil, nil, err
	}
	defer store.Close()
	catalog, err := store.Catalog(ctx)
	if err != nil {
		return nil, nil, err
	}
	organizations := demo.Organizations(catalog)
	if err := demo.Seed(ctx, store, organizations, env, time.Now()); err != nil {
		return nil, nil, err
	}
	// Written before their usage, so that a run that is cut off is carried on by the next one.
	if err := env.Write(c.envFile()); err != nil {
		return nil, nil, err
	}
	if err := demo.SeedUsage(ctx, store, catalog, organizations, env); err != nil {
		return nil, nil, fmt.Errorf("write the past usage of the demo organizations: %w", err)
	}
	env["TOLLGATE_URL"] = "http://" + loopback(c.Port)
	// For `tollgate reconcile`.
	env["TOLLGATE_DATABASE_URL"] = apiURL
	return env, organizations, env.Write(c.envFile())
}
