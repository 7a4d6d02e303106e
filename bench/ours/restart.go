package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/goraft/raft"
)

// restart stops the last server, which has taken snapshots as it saw fit, and times
// what its next start takes: the files lie in the kernel's cache then.
func (all *cluster) restart() error {
	last := len(all.nodes) - 1
	old := all.nodes[last]
	was := old.server.Status()
	if err := old.close(); err != nil {
		return err
	}
	all.nodes = all.nodes[:last]
	segments, log, err := size(old.server.LogPath())
	if err != nil {
		return err
	}
	snapshots, state, err := size(old.snapshots())
	if err != nil {
		return err
	}
	runtime.GC() // what the old one leaves behind is not the new one's to clear away
	began := time.Now()
	n, err := startNode(was.Name, old.server.Path(), false, &blob{}, all.options...)
	if err != nil {
		return err
	}
	all.nodes = append(all.nodes, n)
	now := n.server.Status()
	took := time.Since(began)
	switch {
	case now.State != raft.Follower && now.State != raft.Leader:
		return fmt.Errorf("it is %s after its start", now.State)
	case now.LastApplied < was.CommitIndex || now.LastIndex != was.LastIndex:
		return fmt.Errorf("it has applied %d of %d entries, where it had %d of %d", now.LastApplied, now.LastIndex, was.LastApplied, was.LastIndex)
	}
	all.told["start s"] = took.Seconds()
	all.told["last entry"] = float64(now.LastIndex)
	all.told["snapshot at entry"] = float64(was.SnapshotIndex)
	all.told["entries in the log"] = float64(now.LastIndex - now.FirstIndex + 1)
	all.told["log MiB"], all.told["log files"] = mebi(log), float64(segments)
	all.told["snapshots MiB"], all.told["snapshot files"] = mebi(state), float64(snapshots)
	return nil
}

// snapshots is where the server's snapshots lie.
func (n *node) snapshots() string { return filepath.Dir(n.server.SnapshotPath(1, 1)) }

// size is how many files there are in the directory and below, and how large they
// are together.
func size(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return err
	})
	return files, bytes, err
}

func mebi(bytes int64) float64 { return float64(bytes) / (1 << 20) }
