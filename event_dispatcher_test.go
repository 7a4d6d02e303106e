package raft

import (
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// dispatching runs f in a bubble with a dispatcher whose listener for commits
// blocks until release is closed, and one that notes what states and leaders it
// hears.
func dispatching(t *testing.T, f func(d *eventDispatcher, release chan struct{}, heard *[]string)) {
	synctest.Test(t, func(t *testing.T) {
		var d eventDispatcher
		var delivery tasks
		release := make(chan struct{})
		var heard []string
		d.AddEventListener(CommitEventType, func(Event) { <-release })
		note := func(e Event) { heard = append(heard, e.Type()+" "+e.Value().(string)) }
		d.AddEventListener(StateChangeEventType, note)
		d.AddEventListener(LeaderChangeEventType, note)
		d.begin(&delivery)
		f(&d, release, &heard)
		delivery.Wait()
	})
}

// However many events wait, the latest state and the latest leader are delivered,
// whichever came first, and what was dropped is counted.
func TestEventDispatcherDeliversLatestStateAndLeader(t *testing.T) {
	for _, types := range [][2]string{
		{LeaderChangeEventType, StateChangeEventType},
		{StateChangeEventType, LeaderChangeEventType},
	} {
		dispatching(t, func(d *eventDispatcher, release chan struct{}, heard *[]string) {
			d.dispatch(CommitEventType, nil, nil) // blocks the listener
			synctest.Wait()
			d.dispatch(types[0], "first", "")
			for range maxEvents - 1 {
				d.dispatch(CommitEventType, nil, nil)
			}
			d.dispatch(types[1], "second", "")
			require.LessOrEqual(t, len(d.mu.waiting), maxEvents)
			require.EqualValues(t, 1, d.dropped.Load())
			close(release)
			synctest.Wait()
			require.Equal(t, []string{types[0] + " first", types[1] + " second"}, *heard)
		})
	}
}

// Also where states alone are too many.
func TestEventDispatcherBoundsStates(t *testing.T) {
	dispatching(t, func(d *eventDispatcher, release chan struct{}, heard *[]string) {
		d.dispatch(CommitEventType, nil, nil)
		synctest.Wait()
		d.dispatch(LeaderChangeEventType, "last", "")
		for range 2 * maxEvents {
			d.dispatch(StateChangeEventType, "other", "")
		}
		d.dispatch(StateChangeEventType, "last", "")
		require.LessOrEqual(t, len(d.mu.waiting), maxEvents)
		close(release)
		synctest.Wait()
		require.Equal(t, "leaderChange last", (*heard)[0])
		require.Equal(t, "stateChange last", (*heard)[len(*heard)-1])
		require.EqualValues(t, 2*maxEvents+2, uint64(len(*heard))+d.dropped.Load())
	})
}

// A listener is known as the goroutine inside in every delivery, not only until
// an earlier delivering goroutine has quite ended.
func TestEventDispatcherKnowsWhoIsInside(t *testing.T) {
	dispatching(t, func(d *eventDispatcher, release chan struct{}, _ *[]string) {
		close(release)
		outside, calls := 0, 0
		d.AddEventListener(TermChangeEventType, func(Event) {
			calls++
			if !d.inside.isCaller() {
				outside++
			}
		})
		for range 2000 {
			d.dispatch(TermChangeEventType, nil, nil)
			for d.running() {
				runtime.Gosched()
			}
		}
		synctest.Wait()
		require.Equal(t, 2000, calls)
		require.Zero(t, outside)
	})
}

func (d *eventDispatcher) running() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.running
}

// Events that come before there is anybody to deliver them wait.
func TestEventDispatcherKeepsEventsUntilBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d eventDispatcher
		var delivery tasks
		var heard []interface{}
		d.AddEventListener(TermChangeEventType, func(e Event) {
			heard = append(heard, e.Value())
			if e.Value() == 1 { // a listener may add listeners and events
				d.AddEventListener(StateChangeEventType, func(e Event) { heard = append(heard, e.Value()) })
				d.dispatch(StateChangeEventType, "new", "")
			}
		})
		d.dispatch(TermChangeEventType, 1, 0)
		d.dispatch(TermChangeEventType, 2, 1)
		synctest.Wait()
		require.Empty(t, heard)
		d.begin(&delivery)
		delivery.Wait()
		require.Equal(t, []interface{}{1, 2, "new"}, heard)
	})
}
