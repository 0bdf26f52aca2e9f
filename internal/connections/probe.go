package connections

import (
	"fmt"
	"os"
	"time"
)

// Probe measures how long it takes until a goroutine that waits for its connection runs once
// something has come in: what a request waits before anything of the program sees it. Much of
// that is before the scheduler, among the descriptors that are ready: its own figures don't have
// it. Make it with [OpenProbe].
type Probe struct {
	read, write *os.File
	seen        chan time.Time
}

// OpenProbe makes a probe, which has two file descriptors until it is closed.
func OpenProbe() (*Probe, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open the probe of the delay: %w", err)
	}
	p := &Probe{read: read, write: write, seen: make(chan time.Time, 1)}
	go p.wait()
	return p, nil
}

func (p *Probe) wait() {
	defer close(p.seen)
	var one [1]byte
	for {
		if _, err := p.read.Read(one[:]); err != nil {
			return
		}
		p.seen <- time.Now()
	}
}

// Delay measures once. It takes as long as what it measures; 0 after [Probe.Close].
func (p *Probe) Delay() time.Duration {
	began := time.Now()
	if _, err := p.write.Write([]byte{0}); err != nil {
		return 0
	}
	seen, ok := <-p.seen
	if !ok {
		return 0
	}
	return seen.Sub(began)
}

// Close ends it, when nothing measures any more.
func (p *Probe) Close() {
	_ = p.write.Close()
	// Until its goroutine has ended.
	for range p.seen {
	}
	_ = p.read.Close()
}
