package raft

import (
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// crashPath is something that a server does, whose machine stops meanwhile: s2 of
// three, of which the others are down by then, or the only one.
type crashPath struct {
	name  string
	alone bool
	// prepare readies the server, and do does it. It may stop the server.
	prepare, do func(c *crashTest)
}

// promised is what a server has told others, which no crash may take back.
type promised struct {
	term      uint64
	votedFor  string // in that term, if it is not empty
	committed uint64 // snapshots in force, and entries known to be committed
	stored    uint64 // entries that were acknowledged
	unless    uint64 // a snapshot that ends here is in force, which replaces them; 0: none does
	clean     bool   // the server was stopped: it knows all that it knew
}

// crashTest is a crashPath on its way.
type crashTest struct {
	*clusterTest
	server *server
	mu     sync.Mutex
	now    promised
	points []crashMoment
	// ever are the records that the log had at each index, in one life or another.
	ever map[uint64]map[string]bool
	seen map[crashed]bool
	want []journalEntry
	last Status // when the path was done
}

// crashMoment is a call to the disk at which the machine may stop.
type crashMoment struct {
	states   iter.Seq2[string, *vfs.Mem]
	promised promised
	op       string // that the disk was about to do
}

// crashed is a disk that was looked at, and what had been promised.
type crashed struct {
	digest uint64
	promised
}

func (c *crashTest) promise(p promised) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.term, c.now.committed = max(c.now.term, p.term), max(c.now.committed, p.committed)
	c.now.stored = p.stored
}

// append has the server take entries of those terms from s1.
func (c *crashTest) append(term uint64, prev entryID, commit uint64, terms ...uint64) {
	var records []byte
	for i, t := range terms {
		record := nopRecord()
		wal.Record(record).Stamp(prev.index+uint64(i)+1, t, wal.Seed(c.server.ClusterID()))
		records = append(records, record...)
	}
	c.appendRecords("s1", term, prev, commit, len(terms), records)
}

// appendRecords has the server take that many records from a leader.
func (c *crashTest) appendRecords(leader string, term uint64, prev entryID, commit uint64, n int, records []byte) {
	c.t.Helper()
	response := c.server.AppendEntries(&AppendEntriesRequest{
		Term: term, LeaderName: leader, PrevLogIndex: prev.index, PrevLogTerm: prev.term, CommitIndex: commit,
		ClusterID: c.server.ClusterID(), records: records,
	})
	require.True(c.t, response.Success())
	c.remember(records)
	if n == 0 {
		commit = 0 // it is made durable with the entries that come next
	}
	c.promise(promised{term: term, committed: commit, stored: prev.index + uint64(n)})
}

// remember takes notice of records that the log may hold.
func (c *crashTest) remember(records []byte) {
	for len(records) > 0 {
		record, rest, err := wal.NextRecord(records)
		require.NoError(c.t, err)
		if c.ever[record.Index()] == nil {
			c.ever[record.Index()] = make(map[string]bool)
		}
		c.ever[record.Index()][string(record)] = true
		records = rest
	}
}

// crashes remembers what crashes would leave, at every call to the disk.
func (c *crashTest) crashes(disk *vfs.Mem) {
	depth := vfs.Depth{Random: volume(2, 64, 64), Tears: volume(1, 6, 24)}
	disk.SetFault(func(op vfs.Op) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		rng := rand.New(rand.NewPCG(1, uint64(len(c.points))))
		c.points = append(c.points, crashMoment{disk.States(depth, rng), c.now, op.String()})
		return nil
	})
}

// start makes a server of what a crash left, and has it read that.
func (c *crashTest) start(disk *vfs.Mem, where string) (*server, *journal) {
	c.t.Helper()
	name := c.server.name
	j := &journal{test: c.clusterTest, name: name}
	made, err := NewServer(name, "/"+name, deaf{}, j, j, "", withFileSystem(disk), WithRegistry(c.registry(name)),
		WithLogger(slog.New(slog.DiscardHandler)), WithMaxSegmentBytes(64<<10))
	require.NoError(c.t, err)
	require.NoError(c.t, made.Init(), where)
	return made.(*server), j
}

// check starts from what a crash left: nothing that was promised may be missing,
// nothing may be there that never was, and the state must be that of the servers as
// of some entry.
func (c *crashTest) check(disk *vfs.Mem, p promised, where string) {
	made, j := c.start(disk, where)
	defer made.Stop()
	l, s := made.lifecycle.run.Load().loop, made.Status()
	replaced := p.unless > 0 && s.CommitIndex == p.unless && p.stored != p.unless+1
	if s.Term < p.term || s.CommitIndex < p.committed || s.LastIndex < p.stored && !replaced {
		c.t.Fatalf("%s: term %d, last %d, commit %d, promised %+v", where, s.Term, s.LastIndex, s.CommitIndex, p)
	}
	if s.Term == p.term && p.votedFor != "" && s.VotedFor != p.votedFor {
		c.t.Fatalf("%s: vote for %q, promised %+v", where, s.VotedFor, p)
	}
	if s.Term > c.last.Term || s.CommitIndex > c.last.CommitIndex || p.clean && s.CommitIndex < c.last.CommitIndex {
		c.t.Fatalf("%s: term %d, commit %d, never more than %d and %d", where, s.Term, s.CommitIndex, c.last.Term, c.last.CommitIndex)
	}
	if s.LastApplied != s.CommitIndex || made.Err() != nil {
		c.t.Fatalf("%s: applied %d of %d: %v", where, s.LastApplied, s.CommitIndex, made.Err())
	}
	if got := j.entries(); !prefixOf(got, c.want) || len(got) < len(c.want) && c.want[len(got)].index <= s.LastApplied {
		c.t.Fatalf("%s: state %v as of %d", where, got, s.LastApplied)
	}
	configuration := c.checkLog(l, where)
	if in := l.raft.configuration(); configuration != nil && !reflect.DeepEqual(in, configuration) || configuration == nil && in.index >= s.FirstIndex {
		c.t.Fatalf("%s: configuration %+v, the log says %+v", where, in, configuration)
	}
}

// checkLog reads the log, of which each entry must have been there once, and returns
// the last configuration in it.
func (c *crashTest) checkLog(l *eventLoop, where string) (last *configuration) {
	view := l.view()
	for i := l.raft.log.base.index + 1; i <= l.raft.log.end; {
		records, end, err := view.read(i, l.raft.log.end, 1<<20)
		require.NoError(c.t, err, where)
		for i = end + 1; len(records) > 0; {
			record, rest, err := wal.NextRecord(records)
			require.NoError(c.t, err, where)
			if !c.ever[record.Index()][string(record)] {
				c.t.Fatalf("%s: entry %d of term %d was never there", where, record.Index(), record.Term())
			}
			if record.Kind() == kindConfiguration {
				last, err = decodeConfiguration(record.Data(), record.Index())
				require.NoError(c.t, err, where)
			}
			records = rest
		}
	}
	return last
}

// rememberLog takes notice of all that a log holds.
func (c *crashTest) rememberLog(view *logView, first, last uint64) {
	for i := first; i <= last; {
		records, end, err := view.read(i, last, 1<<20)
		require.NoError(c.t, err)
		c.remember(records)
		i = end + 1
	}
}

// crashAtEveryCall stops the machine at each call to the disk while the path is gone.
// What it leaves starts, with all that was promised; and so it does if the machine
// stops again meanwhile. The path is gone several times, from other places of the
// file.
func crashAtEveryCall(t *testing.T, path crashPath) {
	calls, states, different := 0, 0, 0
	for variant := range volume(1, 4, 16) {
		servers, name := 3, "s2"
		if path.alone {
			servers, name = 1, "s1"
		}
		inRunningCluster(t, servers, ClusterOptions{Options: []Option{WithMaxSegmentBytes(64 << 10)}}, func(base *clusterTest) {
			c := &crashTest{clusterTest: base, server: base.Server(name).(*server), ever: make(map[uint64]map[string]bool), seen: make(map[crashed]bool)}
			c.puts("a", 1, 5)
			c.put(strings.Repeat("b", rand.New(rand.NewPCG(4, uint64(variant))).IntN(vfs.SectorSize)))
			c.converge()
			c.walk(path)
			calls += len(c.points) - 1
			states += c.checkAll()
			different += len(c.seen)
		})
	}
	t.Logf("%d calls, %d states, %d of them different", calls, states, different)
}

// walk goes the path, and remembers what crashes would leave.
func (c *crashTest) walk(path crashPath) {
	name := c.server.name
	path.prepare(c)
	for _, other := range c.Names() {
		if other != name {
			c.Stop(other)
		}
	}
	c.server.FlushCommitIndex()
	now := c.server.now()
	c.rememberLog(&now.view, now.status.FirstIndex, now.status.LastIndex)
	c.promise(promised{term: now.status.Term, committed: now.status.CommitIndex, stored: now.status.LastIndex})
	disk := c.node(name).disk.Load()
	c.crashes(disk)
	path.do(c)
	c.last = c.server.Status()
	c.Stop(name)
	disk.SetFault(nil)

	// A clean end knows all that the server knew.
	c.now.clean = true
	made, j := c.start(disk.CrashClone(vfs.Nothing), "at the end")
	c.rememberLog(&made.now().view, made.Status().FirstIndex, made.Status().LastIndex)
	c.want = j.entries()
	made.Stop()
	require.True(c.t, prefixOf(c.journal(name).entries(), c.want))
	c.points = append(c.points, crashMoment{disk.States(vfs.Depth{Random: 4}, rand.New(rand.NewPCG(2, 2))), c.now, "nothing"})
}

// checkAll looks at every state of every moment, or of some and the last, and counts
// them.
func (c *crashTest) checkAll() (states int) {
	points, step := c.points, oneOf(1, 1, 1)
	for i, point := range points {
		if i%step > 0 && i < len(points)-1 {
			continue
		}
		for state, disk := range point.states {
			states++
			key := crashed{disk.Digest(), point.promised}
			if c.seen[key] {
				continue
			}
			c.seen[key] = true
			where := fmt.Sprintf("call %d (%s), %s", i, point.op, state)
			again := disk.CrashClone(vfs.Everything)
			c.check(disk, point.promised, where)
			if len(c.seen)%chosen(40, 20, 20) > 0 {
				continue
			}
			states += c.checkStart(again, point.promised, where)
		}
	}
	return states
}

// checkStart stops the machine at each call while the server starts.
func (c *crashTest) checkStart(disk *vfs.Mem, p promised, where string) (states int) {
	var left []*vfs.Mem
	rng := rand.New(rand.NewPCG(3, uint64(len(c.seen))))
	disk.SetFault(func(op vfs.Op) error {
		if op.Kind.Changes() {
			left = append(left, disk.CrashClone(vfs.Nothing), disk.CrashClone(vfs.Random(rng)))
		}
		return nil
	})
	made, _ := c.start(disk, where)
	disk.SetFault(nil)
	made.Stop()
	for n, again := range left {
		c.check(again, p, fmt.Sprintf("%s, and again at call %d", where, n/2))
	}
	return len(left)
}

// end is the server's entry at the end of its log.
func (c *crashTest) end() entryID {
	s := c.server.Status()
	return entryID{s.LastIndex, s.LastTerm}
}

// reform is the server's configuration with other members, as a record at the index.
func (c *crashTest) reform(index, term uint64, members []member) []byte {
	k := c.server.now().configuration.having(members).at(index)
	record, err := configurationRecord(k, c.server.ClusterID(), joinCommand, "")
	require.NoError(c.t, err)
	wal.Record(record).Stamp(index, term, wal.Seed(c.server.ClusterID()))
	return slices.Clone(record)
}
