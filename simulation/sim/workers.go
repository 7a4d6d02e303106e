package main

import (
	"cmp"
	"context"
	"runtime"
	"sync"
)

// inOrder computes job(0), job(1), … on as many goroutines as there are workers
// and hands the results to take in that order, until there are no more jobs or
// take has had enough. An error ends it as well. Jobs that were begun for nothing
// have their context cancelled.
func inOrder[T any](ctx context.Context, workers, jobs int, job func(ctx context.Context, i int) (T, error), take func(i int, result T) (more bool, err error)) error {
	outer := ctx
	ctx, cancel := context.WithCancel(outer)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()

	type answer struct {
		result T
		err    error
	}
	answers := make(chan chan answer, max(workers-1, 0))
	slots := make(chan struct{}, workers)
	group.Go(func() {
		defer close(answers)
		for i := 0; jobs < 0 || i < jobs; i++ {
			own := make(chan answer, 1)
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			group.Go(func() {
				defer func() { <-slots }()
				result, err := job(ctx, i)
				own <- answer{result, err}
			})
			select {
			case answers <- own:
			case <-ctx.Done():
				return
			}
		}
	})
	i := 0
	for own := range answers {
		got := <-own
		if got.err != nil {
			return cmp.Or(outer.Err(), got.err)
		}
		more, err := take(i, got.result)
		if !more || err != nil {
			return err
		}
		i++
	}
	return outer.Err()
}

// cores is how many runs go on at once.
func cores() int { return runtime.GOMAXPROCS(0) }
