package main

import (
	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter/journal"
)

// subject is a log that is measured.
type subject struct {
	name string
	open func(dir string) (log, error)
}

// log is an open subject.
type log interface {
	// appender returns one goroutine's function that appends the i-th record.
	appender() func(i int) error
	close() error
}

// The subjects, by what survives.
var (
	processSubjects = []subject{
		{"tollgate-process", openJournal(journal.Process)},
		{"tollgate-memory", openJournal(journal.Memory)},
		{"write", openWriter},
		{"coalesced-write", openGrouped},
		{"mapped-64KiB", openMapped(64<<10, bytesLayout)},
		{"mapped-1MiB", openMapped(1<<20, bytesLayout)},
		{"mapped-4MiB", openMapped(4<<20, bytesLayout)},
		{"tidwall-wal-NoSync", openTidwall(true)},
		{"prometheus-wlog", openWlog},
	}
	diskSubjects = []subject{
		{"tollgate-disk", openJournal(journal.Disk)},
		{"tidwall-wal", openTidwall(false)},
		{"raft-wal", openRaft},
		{"etcd-wal", openEtcd},
	}
	layoutSubjects = []subject{
		{"key-as-bytes", openMapped(1<<20, bytesLayout)},
		{"key-interned-by-map", openMapped(1<<20, mapLayout)},
		{"key-interned-by-search", openMapped(1<<20, searchLayout)},
	}
)

type ours struct{ journal *journal.Journal }

func openJournal(durability journal.Durability) func(string) (log, error) {
	return func(dir string) (log, error) {
		j, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.New(), Durability: durability})
		return ours{j}, err
	}
}

func (o ours) appender() func(int) error {
	organization := uuid.New()
	return func(i int) error {
		_, err := o.journal.Append(newRecord(organization, i))
		return err
	}
}

func (o ours) close() error { return o.journal.Close() }
