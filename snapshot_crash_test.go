package raft

import (
	"slices"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/stretchr/testify/require"
)

// snapshotCrashPaths take snapshots and put them in force.
var snapshotCrashPaths = []crashPath{
	{"take the first", false, func(*crashTest) {}, func(c *crashTest) {
		require.NoError(c.t, c.server.TakeSnapshot())
	}},
	{"take the third", false, func(c *crashTest) {
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
	{"install behind the log", false, func(*crashTest) {}, func(c *crashTest) {
		installOne(c, c.server.Status().LastIndex+100)
	}},
	{"install behind the log and two snapshots", false, func(c *crashTest) {
		for range 2 {
			c.puts("a", 1, 250)
			c.converge()
			require.NoError(c.t, c.server.TakeSnapshot())
		}
	}, func(c *crashTest) {
		installOne(c, c.server.Status().LastIndex+100)
	}},
	{"install over entries that conflict", false, func(c *crashTest) { conflict(c, 20) }, func(c *crashTest) {
		installOne(c, c.server.Status().LastIndex-10)
	}},
	{"install what the log holds", false, func(c *crashTest) { conflict(c, 20) }, func(c *crashTest) {
		status := c.server.Status()
		_, answer := c.fileFor(c.server, snapshot.Label{Index: status.LastIndex - 10, Term: status.LastTerm}).send(c.server, "s1", 50)
		require.True(c.t, answer.Success)
		c.pass(testElection)
	}},
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

// At each call to the disk while snapshots are taken, sent and put in force the
// machine stops. What it leaves starts again, with all that was promised.
func TestCrashAtEveryCallOfSnapshots(t *testing.T) {
	for _, path := range snapshotCrashPaths {
		t.Run(path.name, func(t *testing.T) { crashAtEveryCall(t, path) })
	}
}
