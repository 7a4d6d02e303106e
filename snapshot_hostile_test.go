package raft

import (
	"strings"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// snapshotFile is the bytes of a snapshot's file, as some leader might send them.
type snapshotFile struct {
	header snapshot.Header
	bytes  []byte
}

// newSnapshotFile makes the file of a state.
func newSnapshotFile(t *testing.T, h snapshot.Header, state []byte) snapshotFile {
	t.Helper()
	disk := vfs.NewMem()
	files, err := snapshot.Open(disk, "x")
	require.NoError(t, err)
	w, err := files.Create(h)
	require.NoError(t, err)
	_, err = w.Write(state)
	require.NoError(t, err)
	require.NoError(t, w.Finish())
	_, err = w.Publish()
	require.NoError(t, err)
	b, err := disk.Bytes("x/" + snapshot.Name(h.Label))
	require.NoError(t, err)
	return snapshotFile{h, b}
}

// offer is the offer of the file by a leader.
func (f snapshotFile) offer(leader string, term uint64) *SnapshotRequest {
	return &SnapshotRequest{
		LeaderName: leader, Term: term, ClusterID: f.header.ClusterID, LastIndex: f.header.Index, LastTerm: f.header.Term,
		SnapshotID: f.header.ID, Size: uint64(len(f.bytes)),
	}
}

// piece is all of the file.
func (f snapshotFile) piece(leader string, term uint64) *SnapshotRecoveryRequest {
	return &SnapshotRecoveryRequest{
		LeaderName: leader, Term: term, ClusterID: f.header.ClusterID, LastIndex: f.header.Index, LastTerm: f.header.Term,
		SnapshotID: f.header.ID, Size: uint64(len(f.bytes)), State: f.bytes,
	}
}

// lonely stops all servers of a cluster but s2, which from now on hears only what
// the test says in the name of s1.
func lonely(c *clusterTest) *server {
	c.puts("a", 1, 5)
	c.converge()
	c.Stop("s1")
	c.Stop("s3")
	return c.Server("s2").(*server)
}

// fileFor is a snapshot that suits the server: the state of its journal and one
// more entry at the label.
func (c *clusterTest) fileFor(s *server, label snapshot.Label) snapshotFile {
	meta, err := encodeClusterState(&clusterState{configuration: s.now().configuration}, s.ClusterID())
	require.NoError(c.t, err)
	state := writeJournal(append(c.journal(s.name).entries(), journalEntry{label.Index, label.Term, "sent"}))
	return newSnapshotFile(c.t, snapshot.Header{Label: label, ClusterID: s.ClusterID(), ID: label.Index, Meta: meta}, state)
}

// send has the server receive a whole file from a leader, and returns its answers.
func (f snapshotFile) send(s *server, leader string, term uint64) (*SnapshotResponse, *SnapshotRecoveryResponse) {
	offered := s.RequestSnapshot(f.offer(leader, term))
	return offered, s.SnapshotRecoveryRequest(f.piece(leader, term))
}

// A second snapshot may be put in force before the first one is restored, because
// Apply takes its time. The file of the first is gone then; the server must go on
// with the second one.
func TestSnapshotReplacedBeforeItIsRestored(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		free := make(chan struct{})
		c.during = func(ctx Context, value string) {
			if value == "slow" && ctx.Server().Name() == "s2" {
				<-free
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		if leader := c.leader().Name(); leader == "s2" {
			c.Isolate("s2")
			c.within(20*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader().Name() != "s2" })
			c.Heal()
		}
		c.put("slow")
		c.within(testElection, "s2 to be slow", func() bool { return c.Server("s2").CommitIndex() == c.leader().CommitIndex() })
		c.Stop("s1")
		c.Stop("s3")
		s := c.Server("s2").(*server)
		first, second := c.fileFor(s, snapshot.Label{Index: 100, Term: 50}), c.fileFor(s, snapshot.Label{Index: 200, Term: 50})
		_, answer := first.send(s, "s1", 50)
		require.True(t, answer.Success)
		_, answer = second.send(s, "s1", 50)
		require.True(t, answer.Success)
		c.pass(testElection)
		close(free)
		c.within(testElection, "the second snapshot to be restored", func() bool { return s.Status().LastApplied == 200 })
		require.NoError(t, s.Err())
		require.Contains(t, c.journal("s2").entries(), journalEntry{200, 50, "sent"})
	})
}

// What arrives as a snapshot is judged before it gets its name: a file of another
// cluster, or one whose configuration cannot be read, must not be what the next
// start finds.
func TestSnapshotThatIsOfNoUseIsNotPublished(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(h *snapshot.Header)
	}{
		{"of another cluster", func(h *snapshot.Header) { h.ClusterID++ }},
		{"without a configuration", func(h *snapshot.Header) { h.Meta = []byte("nonsense") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
				s := lonely(c)
				f := c.fileFor(s, snapshot.Label{Index: 100, Term: 50})
				h := f.header
				test.change(&h)
				f = newSnapshotFile(t, h, nil)
				f.header.ClusterID = 0 // as by a transport that does not tell
				offered, answer := f.send(s, "s1", 50)
				require.True(t, offered.Success)
				require.False(t, answer.Success)
				require.NoError(t, c.StartAll())
				require.NoError(t, c.Restart("s2"))
				c.put("b")
				c.converge()
			})
		})
	}
}

// No entry is of a later term than the leader that has it, and none is the last
// that a number can count.
func TestSnapshotThatCannotBe(t *testing.T) {
	for _, label := range []snapshot.Label{{Index: 100, Term: 51}, {Index: 1<<64 - 1, Term: 50}} {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			s := lonely(c)
			offered, answer := c.fileFor(s, label).send(s, "s1", 50)
			require.Equal(t, refusedTerm, offered.Refused)
			require.Equal(t, refusedTerm, answer.Refused)
			require.NoError(t, c.Restart("s2"))
			require.NoError(t, c.StartAll())
			c.put("b")
			c.converge()
		})
	}
}

// A whole state comes without an offer whose answer waits for the disk. Its file
// must not be there before the term in which it came, or the next start finds a
// snapshot of a term that it knows nothing of.
func TestSnapshotWaitsForTheTermItCameIn(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		s := lonely(c)
		stall := make(chan struct{})
		c.node("s2").disk.Load().SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.HasPrefix(op.Name, "s2/log/") {
				<-stall
			}
			return nil
		})
		state := writeJournal(append(c.journal("s2").entries(), journalEntry{100, 50, "sent"}))
		answered := make(chan *SnapshotRecoveryResponse, 1)
		go func() {
			answered <- s.SnapshotRecoveryRequest(&SnapshotRecoveryRequest{LeaderName: "s1", Term: 50, LastIndex: 100, LastTerm: 50, State: state})
		}()
		c.pass(10 * testElection)
		left := c.node("s2").disk.Load().CrashClone(vfs.Nothing)
		close(stall)
		require.NotNil(t, <-answered)
		c.Stop("s2")
		c.node("s2").disk.Store(left)
		require.NoError(t, c.StartAll())
		c.put("b")
		c.converge()
	})
}
