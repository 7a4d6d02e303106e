package raft

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever goroutines put, the taker gets all of it, each goroutine's in order,
// and what is put after close is refused and not taken.
func TestQueueDeliversInOrder(t *testing.T) {
	const putters, each = 8, 500
	q := newQueue[[2]int]()
	var accepted [putters]int
	var wait sync.WaitGroup
	for p := range putters {
		wait.Go(func() {
			for i := range each {
				if q.put([2]int{p, i}) {
					accepted[p]++
				}
			}
		})
	}
	var next [putters]int
	var taken [][2]int
	for rounds := 0; ; rounds++ {
		<-q.ready
		if rounds == 20 {
			q.close()
		}
		closed := q.closed()
		taken = q.take(taken)
		for _, item := range taken {
			require.Equal(t, next[item[0]], item[1])
			next[item[0]]++
		}
		if closed {
			break
		}
		if sum(next[:]) == putters*each {
			q.close()
		}
	}
	wait.Wait()
	require.Equal(t, accepted, next)
	require.False(t, q.put([2]int{}))
	require.False(t, q.merge([2]int{}, func(*[2]int) bool { return true }))
	require.False(t, q.waiting())
}

// What is left wakes nobody before there is much of it, and hides nothing from who
// puts.
func TestQueueLeaves(t *testing.T) {
	q := newQueue[int]()
	told := func() bool {
		select {
		case <-q.ready:
			return true
		default:
			return false
		}
	}
	for range 3 {
		require.True(t, q.leave(1))
		require.False(t, told())
		require.True(t, q.put(2))
		require.True(t, told())
		require.True(t, q.leave(3))
		require.False(t, told(), "it has been told")
		require.Equal(t, []int{1, 2, 3}, q.take(nil))
	}
	for n := range maxLeft {
		require.False(t, told(), "of %d", n)
		q.leave(n)
	}
	require.True(t, told())
	q.close()
	require.False(t, q.leave(4))
	require.Len(t, q.take(nil), maxLeft)
}

func sum(numbers []int) (total int) {
	for _, n := range numbers {
		total += n
	}
	return total
}

// What is merged is part of the value that waits, and is a value of its own when
// none does.
func TestQueueMerges(t *testing.T) {
	q := newQueue[int]()
	add := func(n int) { require.True(t, q.merge(n, func(last *int) bool { *last += n; return true })) }
	add(1)
	add(2)
	<-q.ready
	require.Equal(t, []int{3}, q.take(nil))
	add(4)
	<-q.ready
	require.Equal(t, []int{4}, q.take(nil))
}

// A goroutine inside is told from others, and from those that come after it.
func TestCallerIDTellsGoroutinesApart(t *testing.T) {
	var inside callerID
	require.False(t, inside.isCaller())
	inside.enter(goroutineID())
	require.True(t, inside.isCaller())
	other := make(chan bool)
	go func() { other <- inside.isCaller() }()
	require.False(t, <-other)
	inside.leave()
	require.False(t, inside.isCaller())
	require.NotZero(t, goroutineID())
}
