package raft_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/goraft/raft"
)

// counter is a state machine: what servers agree on is a number.
type counter struct {
	mu sync.Mutex
	n  int
}

// Save is StateMachine's.
func (c *counter) Save() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Append(nil, c.n), nil
}

// Recovery is StateMachine's.
func (c *counter) Recovery(state []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := fmt.Sscan(string(state), &c.n)
	return err
}

// add is a command that adds to the counter.
type add struct{ N int }

// CommandName is Command's.
func (a *add) CommandName() string { return "add" }

// Apply returns the new number.
func (a *add) Apply(ctx raft.Context) (interface{}, error) {
	c := ctx.Server().StateMachine().(*counter)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += a.N
	return c.n, nil
}

// A Cluster shows what becomes of an application's state when servers crash. In a
// testing/synctest bubble it would take no time at all.
func ExampleCluster() {
	registry := raft.NewRegistry()
	if err := registry.Register(&add{}); err != nil {
		fmt.Println(err)
		return
	}
	cluster := raft.NewCluster(3, raft.ClusterOptions{
		Options:      []raft.Option{raft.WithRegistry(registry)},
		StateMachine: func(string) raft.StateMachine { return new(counter) },
	})
	defer cluster.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := cluster.Bootstrap(ctx); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cluster.Do(ctx, &add{2}))
	cluster.Crash(cluster.Leader().Name())
	fmt.Println(cluster.Do(ctx, &add{3}))
	if err := cluster.StartAll(); err != nil {
		fmt.Println(err)
	}
	if err := cluster.WaitForConverged(ctx); err != nil {
		fmt.Println(err)
	}
	for name, server := range cluster.Servers() {
		if state, err := server.StateMachine().Save(); err != nil || string(state) != "5" {
			fmt.Println(name, string(state), err)
		}
	}
	// Output:
	// 2 <nil>
	// 5 <nil>
}
