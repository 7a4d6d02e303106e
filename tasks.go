package raft

import (
	"context"
	"runtime/pprof"
	"sync"
)

// tasks are goroutines that end together: whoever started them waits for them.
// It is the only place in the package that starts one.
type tasks struct {
	group sync.WaitGroup
}

// Go runs f on a goroutine of its own, under that name in profiles.
func (t *tasks) Go(name string, f func()) {
	t.group.Go(func() {
		pprof.Do(context.Background(), pprof.Labels("raft", name), func(context.Context) { f() })
	})
}

// Wait returns when all of them have.
func (t *tasks) Wait() { t.group.Wait() }
