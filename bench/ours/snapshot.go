package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/goraft/raft"
)

// blob is a state of so many bytes, for snapshots that are large without a log of
// the same size, and without the memory for it.
type blob struct{ size int64 }

var _ raft.StateStreamer = (*blob)(nil)

// page is what a blob consists of.
var page = slices.Repeat([]byte("a state that is no use "), 64<<10/23)

// Save is StateMachine's; a StateStreamer is never asked.
func (b *blob) Save() ([]byte, error) { return nil, errors.ErrUnsupported }

// Recovery is StateMachine's; a StateStreamer is never asked.
func (b *blob) Recovery([]byte) error { return errors.ErrUnsupported }

// FixState is StateStreamer's: the state never changes.
func (b *blob) FixState() (raft.StateView, error) { return blobView{b.size}, nil }

// RecoverFrom is StateStreamer's.
func (b *blob) RecoverFrom(state io.Reader) (err error) {
	b.size, err = io.Copy(io.Discard, state)
	return err
}

type blobView struct{ size int64 }

// WriteTo is StateView's.
func (v blobView) WriteTo(w io.Writer) (written int64, err error) {
	for written < v.size && err == nil {
		var n int
		n, err = w.Write(page[:min(int64(len(page)), v.size-written)])
		written += int64(n)
	}
	return written, err
}

// Release is StateView's.
func (blobView) Release() {}

// sentWithin is how long a new server may take to become a voter.
const sentWithin = 50 * time.Second

// compact has the leader drop the beginning of its log, behind two snapshots.
func (all *cluster) compact() error {
	write, err := all.Client(0)
	if err != nil {
		return err
	}
	leader := all.nodes[0].server
	for range 2 {
		for range 2 * raft.NumberOfLogEntriesAfterSnapshot {
			if err := write(context.Background()); err != nil {
				return err
			}
		}
		if err := leader.TakeSnapshot(); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(readyWithin)
	for leader.Status().FirstIndex <= 1 {
		if time.Now().After(deadline) {
			return errors.New("the log was not compacted in time")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// send adds a server, which needs the leader's snapshot, and waits until it votes.
func (all *cluster) send(ctx context.Context) error {
	began := time.Now()
	if err := all.grow(false); err != nil {
		return err
	}
	n := all.nodes[len(all.nodes)-1]
	index, err := n.await(ctx, "the snapshot", func() uint64 { return n.server.Status().SnapshotIndex })
	if err != nil {
		return err
	}
	all.told["snapshot s"] = time.Since(began).Seconds()
	if first := all.nodes[0].server.Status().FirstIndex; index < first-1 {
		return fmt.Errorf("the snapshot is of %d, the log begins at %d", index, first)
	}
	if _, err := n.await(ctx, "its vote", func() uint64 {
		for _, m := range all.nodes[0].server.Status().Members {
			if m.Name == n.server.Name() && m.Voter {
				return 1
			}
		}
		return 0
	}); err != nil {
		return err
	}
	all.told["until it votes s"] = time.Since(began).Seconds()
	_, bytes, err := size(n.snapshots())
	all.told["snapshot MiB"] = mebi(bytes)
	return err
}

// await waits until there is something other than 0.
func (n *node) await(ctx context.Context, what string, look func() uint64) (uint64, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(sentWithin); ; {
		if found := look(); found != 0 {
			return found, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-deadline:
			return 0, fmt.Errorf("%s waited for %s too long: %+v", n.server.Name(), what, n.server.Status())
		}
	}
}
