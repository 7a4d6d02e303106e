package raft

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// Settings that are set again and again do not keep a server from standing for
// election.
func TestFollowerCampaignsWhileSettingsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s := newLone(t, disk, nil)
		begun(t, s)
		s.Stop()
		require.NoError(t, s.Start())
		defer s.Stop()
		for range 50 {
			<-time.After(s.ElectionTimeout() / 5)
			s.SetHeartbeatInterval(s.HeartbeatInterval())
		}
		require.Equal(t, Leader, s.State())
	})
}

// A longer election timeout is given up for a shorter one at once, by leaders and
// followers.
func TestFollowerTakesShorterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s := newLone(t, disk, nil)
		begun(t, s)
		s.Stop()
		s.SetElectionTimeout(time.Hour)
		require.NoError(t, s.Start())
		defer s.Stop()
		<-time.After(time.Second)
		require.Equal(t, Follower, s.State())
		s.SetElectionTimeout(time.Second)
		<-time.After(2 * time.Second)
		require.Equal(t, Leader, s.State())
	})
}

// A server that may not stand for election does not go on naming a leader that
// has fallen silent, nor does it take its own timeouts for the leader's word and
// refuse its vote to others.
func TestFollowerWithoutVoteForgetsSilentLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		require.NoError(t, s.Start())
		defer s.Stop()
		s.control(func(l *eventLoop) {
			l.raft.leader = "b"
			l.heardLeader()
		})
		synctest.Wait()
		require.Equal(t, "b", s.Leader())
		<-time.After(2*s.ElectionTimeout() + time.Millisecond)
		require.Empty(t, s.Leader())
	})
}

// A leader that hears no majority steps down by the election timeout that is set,
// not by the one that was.
func TestLeaderChecksQuorumByNewTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		s.SetElectionTimeout(time.Hour)
		require.NoError(t, s.Start())
		defer s.Stop()
		_, err := s.Do(&DefaultJoinCommand{Name: "a"})
		require.NoError(t, err)
		s.control(func(l *eventLoop) { // a second voter, silent
			l.configure(l.raft.configuration().with(member{name: "b", voter: true}), "", "")
		})
		s.SetElectionTimeout(time.Second)
		<-time.After(2*time.Second + time.Millisecond)
		require.NotEqual(t, Leader, s.State())
	})
}
