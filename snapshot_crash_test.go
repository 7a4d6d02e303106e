package raft

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// crashPath is something that servers do with snapshots, to one of them, whose
// machine stops meanwhile.
type crashPath struct {
	name string
	// prepare readies the server, and do does it.
	prepare, do func(c *crashTest)
}

var crashPaths = []crashPath{
	{"take the first", func(*crashTest) {}, func(c *crashTest) {
		require.NoError(c.t, c.server.TakeSnapshot())
	}},
	{"take the third", func(c *crashTest) {
		for range 2 {
			c.puts("a", 1, 250)
			c.converge()
			require.NoError(c.t, c.server.TakeSnapshot())
		}
		c.puts("a", 1, 250)
		c.converge()
	}, func(c *crashTest) {
		require.NoError(c.t, c.server.TakeSnapshot())
	}},
	{"install behind the log", func(*crashTest) {}, func(c *crashTest) {
		installOne(c, c.server.Status().LastIndex+100)
	}},
	{"install behind the log and two snapshots", func(c *crashTest) {
		for range 2 {
			c.puts("a", 1, 250)
			c.converge()
			require.NoError(c.t, c.server.TakeSnapshot())
		}
	}, func(c *crashTest) {
		installOne(c, c.server.Status().LastIndex+100)
	}},
	{"install over entries that conflict", func(c *crashTest) { conflict(c, 20) }, func(c *crashTest) {
		installOne(c, c.server.Status().LastIndex-10)
	}},
	{"install what the log holds", func(c *crashTest) { conflict(c, 20) }, func(c *crashTest) {
		status := c.server.Status()
		_, answer := c.fileFor(c.server, snapshot.Label{Index: status.LastIndex - 10, Term: status.LastTerm}).send(c.server, "s1", 50)
		require.True(c.t, answer.Success)
		c.pass(testElection)
	}},
}

// promised is what a server has told others, which no crash may take back.
type promised struct {
	term      uint64
	committed uint64 // snapshots in force, and entries known to be committed
	stored    uint64 // entries that were acknowledged
	unless    uint64 // a snapshot that ends here is in force, which replaces them; 0: none does
}

// installOne has the server install a snapshot of s1, which leads term 50, and
// take an entry behind it.
func installOne(c *crashTest, index uint64) {
	c.now.unless = index
	_, answer := c.fileFor(c.server, snapshot.Label{Index: index, Term: 50}).send(c.server, "s1", 50)
	require.True(c.t, answer.Success)
	c.promise(promised{term: 50, committed: index, stored: index})
	c.append(50, entryID{index, 50}, index, 50)
	c.pass(testElection)
}

// conflict has the server take entries of s1 in term 40 that are not committed.
func conflict(c *crashTest, n int) {
	last := c.server.Status()
	c.append(40, entryID{last.LastIndex, last.LastTerm}, last.CommitIndex, slices.Repeat([]uint64{40}, n)...)
}

// append has the server take entries of those terms from s1.
func (c *crashTest) append(term uint64, prev entryID, commit uint64, terms ...uint64) {
	id := c.server.ClusterID()
	req := &AppendEntriesRequest{Term: term, LeaderName: "s1", PrevLogIndex: prev.index, PrevLogTerm: prev.term, CommitIndex: commit, ClusterID: id}
	for i, t := range terms {
		record := nopRecord()
		wal.Record(record).Stamp(prev.index+uint64(i)+1, t, wal.Seed(id))
		req.records = append(req.records, record...)
	}
	response := c.server.AppendEntries(req)
	require.True(c.t, response.Success())
	c.promise(promised{term: term, committed: commit, stored: prev.index + uint64(len(terms))})
}

// crashTest is a crashPath on its way.
type crashTest struct {
	*clusterTest
	server *server
	mu     sync.Mutex
	now    promised
	left   []leftDisk
}

// leftDisk is what a crash left, and what had been promised then.
type leftDisk struct {
	disk     *vfs.Mem
	promised promised
	after    string // what the disk was about to do
}

func (c *crashTest) promise(p promised) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.term, c.now.committed = max(c.now.term, p.term), max(c.now.committed, p.committed)
	c.now.stored = p.stored
}

// crashes remembers what crashes would leave, at every call that changes the disk.
func (c *crashTest) crashes(disk *vfs.Mem, rng *rand.Rand) {
	c.left = nil
	disk.SetFault(func(op vfs.Op) error {
		if !op.Kind.Changes() {
			return nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, choose := range []vfs.Chooser{vfs.Nothing, vfs.Everything, vfs.Random(rng), vfs.Random(rng)} {
			c.left = append(c.left, leftDisk{disk.CrashClone(choose), c.now, fmt.Sprint(op.Kind, " ", op.Name)})
		}
		return nil
	})
}

// check starts from what a crash left: nothing that was promised may be missing,
// and the state must be that of the servers as of some entry.
func (c *crashTest) check(left *leftDisk, want []journalEntry) {
	j := &journal{test: c.clusterTest, name: "s2"}
	made, err := NewServer("s2", "/s2", deaf{}, j, j, "", withFileSystem(left.disk), WithRegistry(c.registry("s2")),
		WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(c.t, err)
	require.NoError(c.t, made.Init(), left.after)
	defer made.Stop()
	l, s, p := made.(*server).lifecycle.run.Load().loop, made.Status(), left.promised
	replaced := p.unless > 0 && s.CommitIndex == p.unless && p.stored != p.unless+1
	if s.Term < p.term || s.CommitIndex < p.committed || s.LastIndex < p.stored && !replaced {
		c.t.Errorf("before %s: term %d, last %d, commit %d, promised %+v", left.after, s.Term, s.LastIndex, s.CommitIndex, p)
	}
	if s.LastApplied != s.CommitIndex || made.Err() != nil {
		c.t.Errorf("before %s: applied %d of %d: %v", left.after, s.LastApplied, s.CommitIndex, made.Err())
	}
	want = slices.DeleteFunc(slices.Clone(want), func(e journalEntry) bool { return e.index > s.LastApplied })
	require.Equal(c.t, want, j.entries(), left.after)
	view := l.view()
	for i := s.FirstIndex; i <= s.LastIndex; {
		_, last, err := view.read(i, s.LastIndex, 1<<20)
		require.NoError(c.t, err, left.after)
		i = last + 1
	}
}

// At each call to the disk while snapshots are taken, sent and put in force the
// machine stops. What it leaves starts again, with all that was promised.
func TestSnapshotCrashAtEveryCall(t *testing.T) {
	for _, path := range crashPaths {
		t.Run(path.name, func(t *testing.T) {
			inRunningCluster(t, 3, ClusterOptions{Options: []Option{WithMaxSegmentBytes(64 << 10)}}, func(base *clusterTest) {
				c := &crashTest{clusterTest: base, server: base.Server("s2").(*server)}
				c.puts("a", 1, 5)
				c.converge()
				path.prepare(c)
				c.Stop("s1")
				c.Stop("s3")
				status := c.server.Status()
				c.server.FlushCommitIndex()
				c.promise(promised{term: status.Term, committed: status.CommitIndex, stored: status.LastIndex})
				disk := c.node("s2").disk.Load()
				c.crashes(disk, rand.New(rand.NewPCG(1, 2)))
				path.do(c)
				c.Stop("s2")
				disk.SetFault(nil)
				c.left = append(c.left, leftDisk{disk, c.now, "nothing"})
				want := c.journal("s2").entries()
				left := c.left
				for i := range left {
					disk := left[i].disk.CrashClone(vfs.Everything)
					c.check(&left[i], want)
					if i%9 > 0 {
						continue
					}
					// And once more while the server starts from what was left.
					c.now = left[i].promised
					c.crashes(disk, rand.New(rand.NewPCG(3, uint64(i))))
					c.check(&leftDisk{disk, c.now, left[i].after}, want)
					disk.SetFault(nil)
					for j := range c.left {
						c.check(&c.left[j], want)
					}
				}
			})
		})
	}
}
