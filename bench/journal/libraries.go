package main

import (
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	tidwall "github.com/tidwall/wal"
	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// library appends records that are encoded as the journal encodes them. Those that
// number their entries want them in order, so that a lock goes around each append;
// none of them lets several appends share one sync.
type library struct {
	mu    sync.Mutex
	index uint64
	write func(index uint64, b []byte) error
	end   func() error
}

func (l *library) appender() func(int) error {
	organization := uuid.New()
	buffer := make([]byte, maxRecord)
	return func(i int) error {
		b := buffer[:bytesLayout(buffer, newRecord(organization, i))]
		l.mu.Lock()
		defer l.mu.Unlock()
		l.index++
		return l.write(l.index, b)
	}
}

func (l *library) close() error { return l.end() }

func openTidwall(noSync bool) func(string) (log, error) {
	return func(dir string) (log, error) {
		options := *tidwall.DefaultOptions
		options.NoSync, options.NoCopy = noSync, true
		w, err := tidwall.Open(dir, &options)
		if err != nil {
			return nil, err
		}
		return &library{write: w.Write, end: w.Close}, nil
	}
}

func openWlog(dir string) (log, error) {
	w, err := wlog.NewSize(slog.New(slog.DiscardHandler), nil, dir, wlog.DefaultSegmentSize, compression.None)
	if err != nil {
		return nil, err
	}
	return &library{write: func(_ uint64, b []byte) error { return w.Log(b) }, end: w.Close}, nil
}

func openRaft(dir string) (log, error) {
	w, err := raftwal.Open(dir)
	if err != nil {
		return nil, err
	}
	return &library{end: w.Close, write: func(index uint64, b []byte) error {
		return w.StoreLog(&raft.Log{Index: index, Term: 1, Data: b})
	}}, nil
}

func openEtcd(dir string) (log, error) {
	w, err := etcdwal.Create(zap.NewNop(), filepath.Join(dir, "wal"), nil)
	if err != nil {
		return nil, err
	}
	term, state := uint64(1), raftpb.HardState{}
	return &library{end: w.Close, write: func(index uint64, b []byte) error {
		return w.Save(&state, []*raftpb.Entry{{Index: &index, Term: &term, Data: b}})
	}}, nil
}
