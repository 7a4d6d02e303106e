package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// streamJournal is a journal that writes its state, and as much ballast as is
// asked for, piece by piece.
type streamJournal struct {
	*journal
	ballast int64
	// writing is called before each piece that is written, with what was written
	// so far; its error ends the writing.
	writing func(name string, written int64) error
	views   *atomic.Int64 // that are not released yet
	pieces  atomic.Int64  // that RecoverFrom has read
	largest atomic.Int64  // of them
}

// streamed makes the servers' state machines streamJournals.
func (c *clusterTest) streamed(ballast int64, writing func(name string, written int64) error) (views *atomic.Int64) {
	views = new(atomic.Int64)
	c.machine = func(j *journal) StateMachine {
		return &streamJournal{journal: j, ballast: ballast, writing: writing, views: views}
	}
	return views
}

// Save is StateMachine's, and never called.
func (s *streamJournal) Save() ([]byte, error) { panic("test: Save of a StateStreamer") }

// Recovery is StateMachine's, and never called.
func (s *streamJournal) Recovery([]byte) error { panic("test: Recovery of a StateStreamer") }

// journalView is a journal's state that was fixed.
type journalView struct {
	of    *streamJournal
	state []byte
}

// FixState is StateStreamer's.
func (s *streamJournal) FixState() (StateView, error) {
	if fail := s.test.saving; fail != nil {
		if err := fail(s.name); err != nil {
			return nil, err
		}
	}
	s.views.Add(1)
	return &journalView{s, writeJournal(s.entries())}, nil
}

// Release is StateView's.
func (v *journalView) Release() { v.of.views.Add(-1) }

// WriteTo is StateView's.
func (v *journalView) WriteTo(w io.Writer) (written int64, err error) {
	put := func(b []byte) error {
		if v.of.writing != nil {
			if err := v.of.writing(v.of.name, written); err != nil {
				return err
			}
		}
		n, err := w.Write(b)
		written += int64(n)
		return err
	}
	if err := put(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(len(v.state))), uint64(v.of.ballast))); err != nil {
		return written, err
	}
	if err := put(v.state); err != nil {
		return written, err
	}
	ballast := newBallast(v.of.ballast)
	b := make([]byte, 64<<10)
	for {
		n, err := ballast.Read(b)
		if err == io.EOF {
			return written, nil
		}
		if err := put(b[:n]); err != nil {
			return written, err
		}
	}
}

// RecoverFrom is StateStreamer's.
func (s *streamJournal) RecoverFrom(state io.Reader) error {
	counted := &countingReader{from: state, by: s}
	var sizes [2]uint64
	for i := range sizes {
		n, err := binary.ReadUvarint(counted)
		if err != nil {
			return err
		}
		sizes[i] = n
	}
	journal := make([]byte, sizes[0])
	if _, err := io.ReadFull(counted, journal); err != nil {
		return err
	}
	want, got, must := newBallast(int64(sizes[1])), make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := want.Read(must)
		if err == io.EOF {
			break
		}
		if _, err := io.ReadFull(counted, got[:n]); err != nil {
			return err
		}
		if !bytes.Equal(got[:n], must[:n]) {
			return errors.New("test: another ballast")
		}
	}
	if n, err := counted.Read(got[:1]); n != 0 || err != io.EOF {
		return fmt.Errorf("test: %d bytes behind the state, %v", n, err)
	}
	return s.journal.Recovery(journal)
}

// countingReader counts the pieces that a state comes in.
type countingReader struct {
	from io.Reader
	by   *streamJournal
}

// Read is io.Reader's.
func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.by.pieces.Add(1)
	r.by.largest.Store(max(r.by.largest.Load(), int64(n)))
	return n, err
}

// ReadByte is io.ByteReader's.
func (r *countingReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

// newBallast is bytes that no two blocks of are equal.
func newBallast(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

// snapshots are the labels of the snapshots that lie on a server's disk, the
// newest first.
func (c *clusterTest) snapshots(name string) []snapshot.Label {
	labels, err := snapshot.List(c.node(name).disk.Load(), "/"+name+"/snapshot")
	if err != nil {
		return nil
	}
	return labels
}

// snapshotName is where a server's snapshot lies.
func snapshotName(name string, label snapshot.Label) string {
	return "/" + name + "/snapshot/" + snapshot.Name(label)
}

// savedJournal is the journal in a server's snapshot.
func (c *clusterTest) savedJournal(name string, label snapshot.Label) []journalEntry {
	c.t.Helper()
	file, err := snapshot.ReadFile(c.node(name).disk.Load(), "/"+name+"/snapshot", label)
	require.NoError(c.t, err)
	state, err := io.ReadAll(file)
	require.NoError(c.t, err)
	require.NoError(c.t, file.Close())
	if c.machine != nil { // a streamJournal
		size, n := binary.Uvarint(state)
		_, m := binary.Uvarint(state[n:])
		state = state[n+m:][:size]
	}
	all, err := readJournal(state)
	require.NoError(c.t, err)
	return all
}

// compacted has a leader take snapshots until its log no longer reaches back to
// index, with commands named prefix between them.
func (c *clusterTest) compacted(index uint64, prefix string) {
	c.t.Helper()
	leader := c.leader()
	for round := 0; leader.Status().FirstIndex <= index; round++ {
		require.Less(c.t, round, 10, "rounds of snapshots")
		c.puts(fmt.Sprint(prefix, round, "-"), 1, NumberOfLogEntriesAfterSnapshot+10)
		require.NoError(c.t, leader.TakeSnapshot())
		c.pass(time.Millisecond)
	}
}

// snapshotCalls is what an interceptor has seen of transfers.
type snapshotCalls struct {
	mu     sync.Mutex
	offers []*SnapshotRequest
	pieces []*SnapshotRecoveryRequest
	lose   func(m MemoryMessage) bool
}

// watchSnapshots notes the snapshot calls that leave, and loses those that lose
// says.
func (c *clusterTest) watchSnapshots(lose func(m MemoryMessage) bool) *snapshotCalls {
	seen := &snapshotCalls{lose: lose}
	c.Network().Intercept(seen.intercept)
	return seen
}

func (s *snapshotCalls) intercept(m MemoryMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch message := m.Message.(type) {
	case *SnapshotRequest:
		s.offers = append(s.offers, message)
	case *SnapshotRecoveryRequest:
		s.pieces = append(s.pieces, message)
	case *SnapshotResponse, *SnapshotRecoveryResponse:
	default:
		return true
	}
	return s.lose == nil || !s.lose(m)
}

// offered are the offers so far, sent the pieces, and bytes is what they carried.
func (s *snapshotCalls) offered() []*SnapshotRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.offers)
}

func (s *snapshotCalls) sent() []*SnapshotRecoveryRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pieces)
}

func (s *snapshotCalls) bytes() (total uint64) {
	for _, piece := range s.sent() {
		total += uint64(len(piece.State))
	}
	return total
}

// losing changes which calls are lost.
func (s *snapshotCalls) losing(lose func(m MemoryMessage) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = lose
}

// isPiece reports whether a message carries a part of a snapshot.
func isPiece(m MemoryMessage) bool {
	_, ok := m.Message.(*SnapshotRecoveryRequest)
	return ok
}

// underSnapshot reports whether a call to a disk is about the file of a snapshot.
func underSnapshot(op vfs.Op) bool { return strings.Contains(op.Name, "/snapshot/") }

// prefixOf reports whether a journal is the beginning of another one.
func prefixOf(part, all []journalEntry) bool {
	return len(part) <= len(all) && slices.Equal(part, all[:len(part)])
}
