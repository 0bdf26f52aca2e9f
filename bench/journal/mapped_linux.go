package main

import (
	"sync"
	"syscall"
)

// openMapped stores records to a shared mapping, a window at a time.
func openMapped(window int, layout layout) func(string) (log, error) {
	return func(dir string) (log, error) {
		f, err := newFile(dir)
		if err != nil {
			return nil, err
		}
		f.layout = layout
		m := &mapped{descriptor: int(f.file.Fd()), size: window}
		f.write = m.append
		return f, m.next()
	}
}

type mapped struct {
	descriptor, size int
	mu               sync.Mutex
	window           []byte
	position         int
	end              int64
}

func (m *mapped) append(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := copy(m.window[m.position:], b)
	m.position += n
	if n == len(b) {
		return nil
	}
	if err := m.next(); err != nil {
		return err
	}
	m.position = copy(m.window, b[n:])
	return nil
}

func (m *mapped) next() error {
	if m.window != nil {
		if err := syscall.Munmap(m.window); err != nil {
			return err
		}
	}
	if err := syscall.Fallocate(m.descriptor, 0, m.end, int64(m.size)); err != nil {
		return err
	}
	window, err := syscall.Mmap(m.descriptor, m.end, m.size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	m.window, m.position = window, 0
	m.end += int64(m.size)
	return err
}
