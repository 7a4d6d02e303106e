package raft_test

import (
	"context"
	"fmt"
	"time"

	"github.com/goraft/raft"
)

// count is what reads of a counter return.
func count(machine raft.StateMachine) (int, error) {
	c := machine.(*counter)
	c.mu.Lock() // counter says nothing of who calls; Apply is held off all the same
	defer c.mu.Unlock()
	return c.n, nil
}

// startCounters begins a cluster of three counters, and returns a server that leads and
// one that does not.
func startCounters(ctx context.Context) (cluster *raft.Cluster, leader, follower raft.Server) {
	registry := raft.NewRegistry()
	if err := registry.Register(&add{}); err != nil {
		panic(err)
	}
	cluster = raft.NewCluster(3, raft.ClusterOptions{
		Options:      []raft.Option{raft.WithRegistry(registry)},
		StateMachine: func(string) raft.StateMachine { return new(counter) },
	})
	if err := cluster.Bootstrap(ctx); err != nil {
		panic(err)
	}
	leader = cluster.Leader()
	for _, server := range cluster.Servers() {
		if server != leader {
			follower = server
		}
	}
	return cluster, leader, follower
}

// What was acknowledged anywhere is seen everywhere.
func ExampleRead() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, follower := startCounters(ctx)
	defer cluster.Close()

	_, err := leader.DoContext(ctx, &add{2})
	fmt.Println(err)
	fmt.Println(raft.Read(ctx, follower, raft.Linearizable, count))
	// Output:
	// <nil>
	// 2 <nil>
}

// A token makes another server show what the client has done, without asking a leader.
func ExampleAtLeast() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, follower := startCounters(ctx)
	defer cluster.Close()

	_, err := leader.DoContext(ctx, &add{2})
	fmt.Println(err)
	token, err := leader.ReadIndex(ctx, raft.Stale) // what this server has applied covers it
	fmt.Println(err)
	fmt.Println(raft.Read(ctx, follower, raft.AtLeast(token), count))
	// Output:
	// <nil>
	// <nil>
	// 2 <nil>
}

// A server that has had a leader's word within the last second need not ask for it.
func ExampleBoundedStaleness() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, leader, follower := startCounters(ctx)
	defer cluster.Close()

	_, err := leader.DoContext(ctx, &add{2})
	fmt.Println(err)
	fmt.Println(raft.Read(ctx, follower, raft.BoundedStaleness(time.Second), count))
	// Output:
	// <nil>
	// 2 <nil>
}
