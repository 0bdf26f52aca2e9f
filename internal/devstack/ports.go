package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Free ports are taken from below the range from which systems draw the source
// ports of outgoing connections (from 32768 on Linux, from 49152 elsewhere). A
// server can so be restarted on its port, although many connections come and
// go meanwhile.
const (
	firstFreePort = 20000
	lastFreePort  = 32000
)

// dialWait is how long a port may take to answer on loopback.
const dialWait = 200 * time.Millisecond

// ErrPortTaken says that another program listens on a port that we need.
var ErrPortTaken = errors.New("the port is taken")

// CheckPort says whether a server can listen on addr, a host:port. The error of a
// taken port wraps ErrPortTaken, and names the flag with which another port can
// be given.
func CheckPort(addr, flagName string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not a host:port: %w", flagName, addr, err)
	}
	// Some systems let two servers share a port if one of them listens on all
	// addresses, so a server that answers counts as well.
	if conn, err := net.DialTimeout("tcp", addr, dialWait); err == nil {
		_ = conn.Close()
		return &portTakenError{port: port, flag: flagName}
	}
	listener, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &portTakenError{port: port, flag: flagName}
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("this user may not listen on port %s: pass another with %s", port, flagName)
	case err != nil:
		return fmt.Errorf("port %s can't be used (see %s): %w", port, flagName, err)
	}
	if err := listener.Close(); err != nil {
		return fmt.Errorf("check port %s: %w", port, err)
	}
	return nil
}

// portTakenError is the error of a taken port.
type portTakenError struct {
	port string
	flag string
}

func (e *portTakenError) Error() string {
	return fmt.Sprintf("port %s is taken by another program: pass another with %s", e.port, e.flag)
}

func (e *portTakenError) Unwrap() error { return ErrPortTaken }

// freePorts remembers what FreePort has handed out in this process.
var freePorts = struct {
	sync.Mutex
	given map[int]bool
}{given: make(map[int]bool)}

// FreePort returns a loopback port on which nothing listens, and never the same
// one twice in a process.
func FreePort() (int, error) {
	freePorts.Lock()
	defer freePorts.Unlock()
	const attempts = 1000
	for range attempts {
		port := firstFreePort + rand.IntN(lastFreePort-firstFreePort)
		if freePorts.given[port] {
			continue
		}
		if CheckPort(loopback(port), "another port") == nil {
			freePorts.given[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d after %d attempts", firstFreePort, lastFreePort, attempts)
}

// FreeAddress returns the loopback address of a FreePort.
func FreeAddress() (string, error) {
	port, err := FreePort()
	if err != nil {
		return "", err
	}
	return loopback(port), nil
}

// loopback returns the address of a port on this machine.
func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// givenOrFreePort returns port if it is given and free, and some free port if it is 0.
func givenOrFreePort(port int, flagName string) (int, error) {
	if port == 0 {
		return FreePort()
	}
	if port < 0 || port > 65535 {
		return 0, fmt.Errorf("%s must be between 0 and 65535, is %d", flagName, port)
	}
	return port, CheckPort(loopback(port), flagName)
}
