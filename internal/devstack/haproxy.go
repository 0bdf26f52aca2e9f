package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrHAProxyNotInstalled says that the machine has no HAProxy. The message says what to type.
var ErrHAProxyNotInstalled = errors.New("HAProxy is not installed")

var installableHAProxy = installable{
	name: "HAProxy", program: "haproxy", packageOf: func(m packageManager) string { return m.haProxy }, missing: ErrHAProxyNotInstalled,
	page: "https://www.haproxy.org/#down",
}

// haProxyStartWait bounds a start.
const haProxyStartWait = 20 * time.Second

// HAProxyConfig says how a HAProxy is run.
type HAProxyConfig struct {
	// Folder receives its log. Required.
	Folder string
	// File is the absolute path of its configuration. Required.
	File string
	// Environment is what the configuration takes from its environment, "NAME=value".
	Environment []string
	// Address is the host:port on which the configuration listens. Required.
	Address string
	// Output receives lines for the person who waits. Nil: they are dropped.
	Output io.Writer
}

// HAProxy is a running HAProxy. It ends with this process, even if that is killed.
type HAProxy struct{ process *process }

// StartHAProxy starts a HAProxy, and returns once it accepts connections. It is installed if it is missing and the
// user may, as by [StartPostgres]; else the error wraps [ErrHAProxyNotInstalled]. The end of ctx ends the start, not
// HAProxy: use Stop.
func StartHAProxy(ctx context.Context, config HAProxyConfig) (*HAProxy, error) {
	if config.Output == nil {
		config.Output = io.Discard
	}
	binary, err := installableHAProxy.findOrInstall(ctx, config.Output)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, haProxyStartWait, errors.New("starting HAProxy took too long"))
	defer cancel()
	p := &HAProxy{}
	p.process, err = startProcess(processConfig{
		name: "HAProxy", path: binary, args: []string{"-db", "-f", config.File}, env: append(os.Environ(), config.Environment...),
		logFile: filepath.Join(config.Folder, "haproxy.log"), stop: syscall.SIGUSR1,
	})
	if err != nil {
		return nil, err
	}
	err = p.process.awaitReady(ctx, func(ctx context.Context) error {
		conn, err := (&net.Dialer{Timeout: dialWait}).DialContext(ctx, "tcp", config.Address)
		if err != nil {
			return fmt.Errorf("connect to HAProxy: %w", err)
		}
		return conn.Close()
	})
	if err != nil {
		return nil, errors.Join(err, p.process.kill())
	}
	return p, nil
}

// Stop ends it after the requests under way, and kills it when ctx ends first.
func (p *HAProxy) Stop(ctx context.Context) error { return p.process.stop(ctx) }
