package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// composeSecrets are the variables that docker-compose.yml demands.
var composeSecrets = []string{"POSTGRES_PASSWORD", "TOLLGATE_API_PASSWORD", "TEMPORAL_DB_PASSWORD"}

type composeEnvCommand struct {
	File string `type:"path" default:".env" placeholder:"FILE" help:"Where docker compose reads them: .env beside docker-compose.yml."`
}

// Run writes a password for each variable, once: the databases keep those that they began with.
func (c composeEnvCommand) Run(out *output) (err error) {
	file, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there, and is left as it is: the databases know its passwords", c.File)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for _, name := range composeSecrets {
		if _, err := fmt.Fprintf(file, "%s=%s\n", name, newPassword()); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "%s has the passwords of docker-compose.yml. Keep it, and keep it to yourself.\n", c.File)
	return err
}

// newPassword makes one of 256 random bits, whose characters mean nothing in a URL, a shell or SQL.
func newPassword() string {
	var random [32]byte
	_, _ = rand.Read(random[:])
	return hex.EncodeToString(random[:])
}
