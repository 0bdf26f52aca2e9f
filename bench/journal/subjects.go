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

// The subjects; ratios are to the first of each.
var (
	processSubjects = []subject{
		{"Tollgate, process", openJournal(journal.Process)},
		{"Tollgate, memory", openJournal(journal.Memory)},
		{"write(2) for each append", openWriter},
		{"coalesced write(2)", openGrouped},
		{"mapped, window 64 KiB", openMapped(64<<10, bytesLayout)},
		{"mapped, window 1 MiB", openMapped(1<<20, bytesLayout)},
		{"mapped, window 4 MiB", openMapped(4<<20, bytesLayout)},
		{"tidwall/wal, NoSync", openTidwall(true)},
		{"prometheus tsdb/wlog", openWlog},
	}
	diskSubjects = []subject{
		{"Tollgate, disk", openJournal(journal.Disk)},
		{"tidwall/wal", openTidwall(false)},
		{"hashicorp/raft-wal", openRaft},
		{"etcd storage/wal", openEtcd},
	}
	layoutSubjects = []subject{
		{"mapped, meter key as bytes", openMapped(1<<20, bytesLayout)},
		{"mapped, meter interned, map", openMapped(1<<20, mapLayout)},
		{"mapped, meter interned, searched", openMapped(1<<20, searchLayout)},
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
