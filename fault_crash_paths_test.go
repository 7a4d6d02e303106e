package raft

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// configurationCrashPaths change who belongs to the cluster.
var configurationCrashPaths = []crashPath{
	{"as the leader", true, func(*crashTest) {}, func(c *crashTest) {
		for _, change := range []Command{
			&DefaultJoinCommand{Name: "s8", ConnectionString: "at-s8"},
			&DefaultJoinCommand{Name: "s9", ConnectionString: "at-s9"},
			&DefaultJoinCommand{Name: "s9", ConnectionString: "elsewhere"},
			&DefaultLeaveCommand{Name: "s8"},
		} {
			_, err := c.server.Do(change)
			require.NoError(c.t, err)
			c.promise(promised{stored: c.server.Status().CommitIndex})
			c.put("x")
			c.promise(promised{stored: c.server.Status().CommitIndex})
		}
		require.NoError(c.t, c.server.AddPeer("s8", "at-s8"))
		c.promise(promised{stored: c.server.Status().CommitIndex})
		c.pass(testElection)
	}},
	// Of one that never commits another leader's takes the place.
	{"as a follower", false, func(*crashTest) {}, func(c *crashTest) {
		end, commit, members := c.end(), c.server.Status().CommitIndex, c.server.now().configuration.members
		nine := member{name: "s9", connectionString: "at-s9", incarnation: end.index + 1}
		c.appendRecords("s1", 40, end, commit, 1, c.reform(end.index+1, 40, append(members[:3:3], nine)))
		nine.voter, nine.storeID = true, 9
		first := entryID{end.index + 1, 40}
		c.appendRecords("s1", 40, first, first.index, 1, c.reform(first.index+1, 40, append(members[:3:3], nine)))
		require.Equal(c.t, 4, c.server.MemberCount())

		c.mu.Lock()
		c.now.stored = first.index // the rest is to go
		c.mu.Unlock()
		members[0].connectionString = "elsewhere"
		records := c.reform(first.index+1, 41, members[:3:3])
		record := c.reform(first.index+2, 41, members[1:3:3])
		c.appendRecords("s3", 41, first, first.index+1, 2, append(records, record...))
		c.appendRecords("s3", 41, entryID{first.index + 2, 41}, first.index+2, 0, nil)
		require.Equal(c.t, 2, c.server.MemberCount())
		c.pass(testElection)
	}},
}

// stopCrashPaths stop a server in order.
var stopCrashPaths = []crashPath{
	{"idle", true, func(*crashTest) {}, func(c *crashTest) {
		c.pass(time.Second)
		c.Stop("s1")
	}},
	{"at work", true, func(*crashTest) {}, func(c *crashTest) {
		var calls sync.WaitGroup
		for i := range 20 {
			c.put(fmt.Sprint("b", i))
			c.promise(promised{stored: c.server.Status().CommitIndex})
		}
		for i := range 20 {
			calls.Go(func() { _, _ = c.server.Do(&testCommand{fmt.Sprint("c", i)}) }) // whatever becomes of it
		}
		c.pass(time.Microsecond)
		c.Stop("s1")
		calls.Wait()
	}},
	{"a follower that has voted", false, func(*crashTest) {}, func(c *crashTest) {
		end := c.end()
		c.append(40, end, end.index, 40, 40, 40)
		c.append(40, entryID{end.index + 3, 40}, end.index+2, 40, 40)
		answer := c.server.RequestVote(&RequestVoteRequest{
			Term: 60, CandidateName: "s3", LastLogIndex: end.index + 9, LastLogTerm: 40, ClusterID: c.server.ClusterID(), Transfer: true,
		})
		require.True(c.t, answer.VoteGranted)
		c.mu.Lock()
		c.now.term, c.now.votedFor = 60, "s3"
		c.mu.Unlock()
		c.Stop("s2")
	}},
	{"with much to write", true, func(c *crashTest) { c.puts("b", 1, 300) }, func(c *crashTest) {
		for i := range 8 {
			c.put(fmt.Sprintf("c%d %03000d", i, 0))
			c.promise(promised{stored: c.server.Status().CommitIndex})
		}
		c.Stop("s1")
	}},
}

// At each call to the disk while the configuration changes the machine stops: what
// it leaves has a configuration that is a function of its log.
func TestCrashAtEveryCallOfChanges(t *testing.T) {
	for _, path := range configurationCrashPaths {
		t.Run(path.name, func(t *testing.T) { crashAtEveryCall(t, path) })
	}
}

// At each call to the disk while a server stops, and before, the machine stops.
func TestCrashAtEveryCallOfStops(t *testing.T) {
	for _, path := range stopCrashPaths {
		t.Run(path.name, func(t *testing.T) { crashAtEveryCall(t, path) })
	}
}
