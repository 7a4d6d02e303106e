package raft_test

import (
	"context"
	"fmt"
	"time"
)

// Before a planned restart the leader hands over, so that nobody waits for an election.
func ExampleLeadership_stepDown() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, _ := startCounters(ctx)
	defer cluster.Close()

	fmt.Println(leader.StepDown(ctx, time.Minute))
	fmt.Println(leader.Leader() != "" && leader.Leader() != leader.Name())
	// Output:
	// <nil>
	// true
}

// The office goes to a server of one's choice.
func ExampleLeadership_transferLeadership() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, follower := startCounters(ctx)
	defer cluster.Close()

	fmt.Println(leader.TransferLeadership(ctx, follower.Name()))
	fmt.Println(leader.Leader() == follower.Name())
	// Output:
	// <nil>
	// true
}

// What must be done by one server only is done in the name of a term, which whoever it
// is done to compares with the last that it has seen.
func ExampleLeadership_verifyLeader() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, follower := startCounters(ctx)
	defer cluster.Close()

	term, err := leader.VerifyLeader(ctx)
	fmt.Println(term == leader.Term(), err)
	_, err = follower.VerifyLeader(ctx)
	fmt.Println(err)
	// Output:
	// true <nil>
	// raft.Server: Not current leader
}

// A program hears of a change by a loop.
func ExampleLeadership_leaderChanges() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, follower := startCounters(ctx)
	defer cluster.Close()

	if err := leader.TransferLeadership(ctx, follower.Name()); err != nil {
		fmt.Println(err)
	}
	for change := range follower.LeaderChanges(ctx) {
		if change.Ready {
			fmt.Println(follower.Name() == change.Leader)
			break
		}
	}
	// Output: true
}

// A leader says whom it misses.
func ExampleStatus_Explain() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, follower := startCounters(ctx)
	defer cluster.Close()

	cluster.Crash(follower.Name())
	for {
		for _, finding := range leader.Explain() {
			if finding.ID == "member-silent" {
				fmt.Println(finding.About == follower.Name())
				return
			}
		}
		<-time.After(time.Millisecond)
	}
	// Output: true
}
