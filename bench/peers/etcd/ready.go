package main

import (
	"encoding/binary"
	"errors"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// idSize is what a command has in front of its payload: the server at which it was
// proposed, and the number of the client there.
const idSize = 8

// Entries that are kept in memory for followers, and how often the others are
// dropped: etcd's SnapshotCatchUpEntries and SnapshotCount.
const (
	keptEntries   = 5000
	compactsEvery = 10000
)

var (
	errDeposed  = errors.New("the leader does not lead any more")
	errSnapshot = errors.New("a follower was sent a snapshot")
)

// loop does what raft says, in etcd's order.
func (n *node) loop() {
	defer close(n.applies)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	leads := false
	for {
		select {
		case <-n.stop:
			return
		case <-ticker.C:
			n.raft.Tick()
		case ready := <-n.raft.Ready():
			if ready.SoftState != nil {
				led := leads
				if leads = ready.RaftState == raft.StateLeader; led && !leads {
					n.fail(errDeposed)
				}
			}
			if err := n.handle(ready, leads); err != nil {
				n.fail(err)
				return
			}
		}
	}
}

func (n *node) handle(ready raft.Ready, leads bool) error {
	if !raft.IsEmptySnap(ready.Snapshot) {
		return errSnapshot
	}
	if len(ready.CommittedEntries) > 0 {
		n.applies <- ready.CommittedEntries
	}
	if leads {
		n.transport.Send(ready.Messages)
	}
	if err := n.log.Save(ready.HardState, ready.Entries); err != nil {
		return err
	}
	if err := n.entries.Append(ready.Entries); err != nil {
		return err
	}
	if err := n.applyChanges(ready.CommittedEntries); err != nil {
		return err
	}
	if !leads {
		n.transport.Send(lastAnswer(ready.Messages))
	}
	n.raft.Advance()
	return nil
}

// lastAnswer drops the answers to the leader that a later one makes needless, as
// etcd does.
func lastAnswer(messages []*raftpb.Message) []*raftpb.Message {
	last := len(messages) - 1
	for last >= 0 && messages[last].GetType() != raftpb.MsgAppResp {
		last--
	}
	kept := make([]*raftpb.Message, 0, len(messages))
	for i, m := range messages {
		if i == last || m.GetType() != raftpb.MsgAppResp {
			kept = append(kept, m)
		}
	}
	return kept
}

// applyChanges applies the changes of the configuration, which are the first entries
// of all: who the members are.
func (n *node) applyChanges(committed []*raftpb.Entry) error {
	for _, e := range committed {
		if e.GetType() != raftpb.EntryConfChange {
			continue
		}
		var change raftpb.ConfChange
		if err := proto.Unmarshal(e.Data, &change); err != nil {
			return err
		}
		n.raft.ApplyConfChange(&change)
	}
	return nil
}

// counter is a state that is cheap to change.
type counter struct{ bytes int64 }

// apply applies what is committed, and answers the clients of this server.
func (n *node) apply() {
	var state counter
	compacted := uint64(0)
	for entries := range n.applies {
		for _, e := range entries {
			if e.GetType() != raftpb.EntryNormal || len(e.Data) == 0 {
				continue
			}
			state.bytes += int64(len(e.Data) - idSize)
			if uint64(binary.BigEndian.Uint32(e.Data)) == n.id {
				n.answers[binary.BigEndian.Uint32(e.Data[4:])] <- struct{}{}
			}
		}
		if applied := entries[len(entries)-1].GetIndex(); applied >= compacted+compactsEvery {
			compacted = applied
			if err := n.compact(applied); err != nil {
				n.fail(err)
			}
		}
	}
}

// compact drops entries from memory that no follower needs.
func (n *node) compact(applied uint64) error {
	to := applied - keptEntries
	for _, p := range n.raft.Status().Progress { // a follower has none
		to = min(to, p.Match)
	}
	if err := n.entries.Compact(to); err != nil && !errors.Is(err, raft.ErrCompacted) {
		return err
	}
	return nil
}
