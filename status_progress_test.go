package raft

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// memberStatus is what a leader's Status says of a member.
func (c *clusterTest) memberStatus(leader Server, name string) MemberStatus {
	c.t.Helper()
	for _, m := range leader.Status().Members {
		if m.Name == name {
			return m
		}
	}
	require.Fail(c.t, "no member "+name)
	return MemberStatus{}
}

// A leader's Status says how each member is brought up to date, how far it is behind, and
// how far away it is.
func TestStatusOfMembers(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		const delay = 3 * time.Millisecond
		c.Delay(delay, delay)
		c.puts("x", 1, 5)
		leader, far := c.leader(), c.followers()[0]
		c.pass(20 * testElection)
		status := leader.Status()
		for _, name := range c.followers() {
			m := c.memberStatus(leader, name)
			require.Equal(c.t, ProgressReplicate, m.Progress)
			require.Equal(c.t, status.LastIndex+1, m.Next)
			require.Zero(c.t, m.Lag)
			require.Zero(c.t, m.InFlight)
			require.Zero(c.t, m.InFlightBytes)
			require.InDelta(c.t, 2*delay, m.RTT, float64(delay)/10)
		}
		require.Empty(c.t, c.memberStatus(leader, leader.Name()).Progress)
		require.Positive(c.t, status.DiskLatency)
		require.Positive(c.t, status.ApplyLatency)

		c.Network().Clog(far, leader.Name())
		value := strings.Repeat("y", 100<<10)
		var writes []<-chan outcome
		for range 60 {
			writes = append(writes, c.async(leader, &testCommand{value}))
		}
		for _, write := range writes {
			require.NoError(c.t, (<-write).err)
		}
		m := c.memberStatus(leader, far)
		require.EqualValues(c.t, 60, m.Lag)
		require.Equal(c.t, leader.Status().LastIndex-60, m.Match)
		c.pass(leader.HeartbeatInterval())
		c.put("a turn later")
		m = c.memberStatus(leader, far)
		require.Positive(c.t, m.InFlight)
		require.Greater(c.t, m.InFlightBytes, 3<<20)
		require.LessOrEqual(c.t, m.InFlightBytes, maxInFlightBytes+len(value)+100)
		c.Network().Unclog(far, leader.Name())
		c.converge()
	})
}

// The state that a sender shows is the one that decides what it sends.
func TestSenderShowsItsState(t *testing.T) {
	s := &sender{progress: newProgress(7)}
	state := func() (m MemberStatus) {
		s.gauge()
		s.tell(&m)
		return m
	}
	require.Equal(t, MemberStatus{Progress: ProgressReplicate, Next: 7}, state())
	s.progress.sent(9, 300)
	require.Equal(t, MemberStatus{Progress: ProgressReplicate, Next: 10, InFlight: 1, InFlightBytes: 300}, state())
	s.progress.lost()
	require.Equal(t, MemberStatus{Progress: ProgressProbe, Next: 7}, state())
	s.shipped = make(chan uint64)
	require.Equal(t, MemberStatus{Progress: ProgressSnapshot, Next: 7}, state())
	s.rtt.observe(8 * time.Millisecond)
	s.rtt.observe(16 * time.Millisecond)
	require.Equal(t, 9*time.Millisecond, state().RTT)
}

// Status is JSON, and back.
func TestStatusIsJSON(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 5)
		c.converge()
		c.Partition([]string{"s1"}, []string{"s2"}, []string{"s3"})
		read := c.asyncRead(c.leader(), Linearizable)
		synctest.Wait()
		want := c.leader().Status()
		require.Equal(c.t, 1, want.WaitingReads)
		b, err := json.Marshal(want)
		require.NoError(c.t, err)
		var got Status
		require.NoError(c.t, json.Unmarshal(b, &got))
		for i := range want.Members { // a time keeps no monotonic reading
			require.True(c.t, want.Members[i].LastActivity.Equal(got.Members[i].LastActivity))
			want.Members[i].LastActivity, got.Members[i].LastActivity = time.Time{}, time.Time{}
		}
		require.Equal(c.t, want, got)
		c.Heal()
		<-read
	})
}
