// Command vulncheck looks for known vulnerabilities in what a module calls. It fails
// on those of other modules, which an upgrade in go.mod mends, and lists those of the
// standard library, which the next Go mends, and those that nothing calls.
//
// The database is the Go module golang.org/x/vulndb, so that a module proxy is all it
// needs to reach.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	folder := flag.String("C", ".", "folder of the module")
	version := flag.String("db", "latest", "version of golang.org/x/vulndb")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: vulncheck [-C FOLDER] [-db VERSION] PACKAGES…")
		os.Exit(2)
	}
	if err := check(*folder, *version, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(1)
	}
}

func check(folder, version string, packages []string) error {
	osv, err := database(version)
	if err != nil {
		return err
	}
	args := append([]string{"tool", "govulncheck", "-C", folder, "-format", "json", "-db", "file://" + filepath.ToSlash(osv)}, packages...)
	messages, err := output(args...)
	if err != nil {
		return err
	}
	found, err := read(bytes.NewReader(messages))
	if err != nil {
		return fmt.Errorf("read what govulncheck says: %w", err)
	}
	return report(os.Stdout, found)
}

// database downloads the database, and returns its folder.
func database(version string) (string, error) {
	described, err := output("mod", "download", "-json", "golang.org/x/vulndb@"+version)
	if err != nil {
		return "", fmt.Errorf("the database comes from the module proxy: %w", err)
	}
	var module struct{ Version, Dir string }
	if err := json.Unmarshal(described, &module); err != nil {
		return "", fmt.Errorf("read what go mod download says: %w", err)
	}
	osv := filepath.Join(module.Dir, "data", "osv")
	entries, err := filepath.Glob(filepath.Join(osv, "GO-*.json"))
	if err != nil || len(entries) == 0 {
		return "", fmt.Errorf("%s has no entries: %w", osv, errors.Join(err, os.ErrNotExist))
	}
	fmt.Printf("golang.org/x/vulndb %s: %d entries\n", module.Version, len(entries))
	return osv, nil
}

// output runs the command go; the error has what it says.
func output(args ...string) ([]byte, error) {
	out, err := exec.Command("go", args...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		// With -json, go says what is wrong in its output.
		return nil, fmt.Errorf("go %s: %w\n%s%s", args[0], err, failed.Stderr, lastLines(out))
	}
	return out, err
}

// lastLines is the end of an output.
func lastLines(out []byte) []byte {
	const most = 2000
	return out[max(0, len(out)-most):]
}
