package devstack

import (
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/term"
)

// progressInterval is how often a log that isn't a terminal gets a line.
const progressInterval = 15 * time.Second

// progress shows that something long is still under way: on a terminal in place,
// once a second, elsewhere as a line now and then.
type progress struct {
	output   io.Writer
	terminal bool
	label    string
	start    time.Time

	mu     sync.Mutex
	detail string

	stop chan struct{}
	done chan struct{}
}

// startProgress begins to show the label and the elapsed time.
func startProgress(output io.Writer, label string) *progress {
	p := &progress{
		output:   output,
		terminal: isTerminal(output),
		label:    label,
		start:    time.Now(),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	go p.run()
	return p
}

// isTerminal reports whether a writer is a terminal, as a file or what has a file's
// descriptor may be.
func isTerminal(output io.Writer) bool {
	file, ok := output.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
}

// set changes what is shown behind the elapsed time.
func (p *progress) set(detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detail = detail
}

// end stops the display. A terminal keeps the last state of the line.
func (p *progress) end() {
	close(p.stop)
	<-p.done
}

func (p *progress) run() {
	defer close(p.done)
	interval := progressInterval
	if p.terminal {
		interval = time.Second
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	p.show()
	for {
		select {
		case <-ticker.C:
			p.show()
		case <-p.stop:
			p.show()
			if p.terminal {
				_, _ = fmt.Fprintln(p.output)
			}
			return
		}
	}
}

// show prints the present state.
func (p *progress) show() {
	p.mu.Lock()
	line := fmt.Sprintf("%s: %d s%s", p.label, int(time.Since(p.start).Seconds()), p.detail)
	p.mu.Unlock()
	if p.terminal {
		const eraseToEnd = "\x1b[K"
		_, _ = fmt.Fprint(p.output, "\r", line, eraseToEnd)
		return
	}
	_, _ = fmt.Fprintln(p.output, line)
}
