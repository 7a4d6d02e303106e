package raft

import (
	"context"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// tasks starts every goroutine of this package and knows when they have ended.
// The zero value is ready; Go must not be called once a Wait may have returned.
type tasks struct {
	server string // whose they are, "" for nobody's
	wait   sync.WaitGroup
	count  atomic.Int64
}

// Go runs f on a goroutine that profiles show under the label "raft" with the name,
// and under the label "server" with that of the server.
func (t *tasks) Go(name string, f func()) {
	t.count.Add(1)
	t.wait.Go(func() {
		defer t.count.Add(-1)
		labelled(t.server, name, f)
	})
}

// labelled runs f on this goroutine with the labels of a server's goroutine.
func labelled(server, name string, f func()) {
	labels := []string{"raft", name}
	if server != "" {
		labels = append(labels, "server", server)
	}
	pprof.Do(context.Background(), pprof.Labels(labels...), func(context.Context) { f() })
}

// Wait returns when every goroutine has ended.
func (t *tasks) Wait() { t.wait.Wait() }

// idle reports whether no goroutine is at work.
func (t *tasks) idle() bool { return t.count.Load() == 0 }

// ended returns a channel that is closed when every goroutine has ended.
func (t *tasks) ended() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		t.wait.Wait()
		close(done)
	}()
	return done
}

// endWithin reports whether every goroutine has ended within d.
func (t *tasks) endWithin(d time.Duration) bool {
	if t.idle() {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.ended():
		return true
	case <-timer.C:
		return false
	}
}
