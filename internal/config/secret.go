package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// fileSuffix is what the variable has at its end that names the file of a secret.
const fileSuffix = "_FILE"

// maxSecret is the largest file of a secret, in bytes.
const maxSecret = 64 << 10

// SecretFiles lets each setting that is tagged secret be in a file, which the setting's variable
// with _FILE at its end names: a secret need be neither a flag, which others on the machine see, nor
// in the environment. The end of the last line isn't part of it. A variable that is set beside its
// file is an error, and so is a file that can't be read or is empty.
func SecretFiles() kong.Option {
	return kong.Resolvers(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if !flag.Tag.Has("secret") {
			return nil, nil
		}
		// The first variable that says something counts.
		for _, name := range flag.Envs {
			secret, inFile, err := secretFile(name)
			switch {
			case err != nil:
				return nil, err
			case inFile:
				return secret, nil
			case os.Getenv(name) != "":
				return nil, nil
			}
		}
		return nil, nil
	}))
}

// secretFile returns what is in the file of a variable, and whether one is named.
func secretFile(name string) (secret string, named bool, err error) {
	path := os.Getenv(name + fileSuffix)
	if path == "" {
		return "", false, nil
	}
	if os.Getenv(name) != "" {
		return "", true, fmt.Errorf("%s and %s are set: only one may be", name, name+fileSuffix)
	}
	file, err := os.Open(path) //nolint:gosec // The file is the operator's choice.
	if err != nil {
		return "", true, fmt.Errorf("%s: %w", name+fileSuffix, err)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return "", true, fmt.Errorf("%s: %w", name+fileSuffix, err)
	}
	secret = strings.TrimRight(string(content), "\r\n")
	if secret == "" || len(content) > maxSecret {
		return "", true, fmt.Errorf("%s: %s must have a secret of 1 to %d bytes", name+fileSuffix, path, maxSecret)
	}
	return secret, true, nil
}

// Environment is the process's, for libraries that read theirs by themselves, with what is in files.
type Environment struct{ fromFiles map[string]string }

// NewEnvironment reads the files of variables that are secrets. Its errors are those of [SecretFiles].
func NewEnvironment(secrets ...string) (Environment, error) {
	e := Environment{fromFiles: map[string]string{}}
	var failed error
	for _, name := range secrets {
		secret, inFile, err := secretFile(name)
		if inFile {
			e.fromFiles[name] = secret
		}
		failed = errors.Join(failed, err)
	}
	return e, failed
}

// Environ returns every variable, as os.Environ does.
func (e Environment) Environ() []string {
	out := os.Environ()
	for name, secret := range e.fromFiles {
		out = append(out, name+"="+secret)
	}
	return out
}

// LookupEnv returns a variable, as os.LookupEnv does.
func (e Environment) LookupEnv(name string) (string, bool) {
	if secret, ok := e.fromFiles[name]; ok {
		return secret, true
	}
	return os.LookupEnv(name)
}
