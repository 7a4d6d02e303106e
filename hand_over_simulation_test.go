//go:build simulation

package raft

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// yieldPoints are all that the source names, those of queues for each queue.
func yieldPoints(t *testing.T) (points []string) {
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	place, queue := regexp.MustCompile(`\.yield\("(.*?)"\)`), regexp.MustCompile(`\.of\("(.*?)"\)`)
	var queues []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "inbox.go" {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, match := range place.FindAllSubmatch(text, -1) {
			points = append(points, string(match[1]))
		}
		for _, match := range queue.FindAllSubmatch(text, -1) {
			queues = append(queues, string(match[1]))
		}
	}
	text, err := os.ReadFile("inbox.go")
	require.NoError(t, err)
	for _, match := range place.FindAllSubmatch(text, -1) {
		for _, queue := range queues {
			points = append(points, queue+" "+string(match[1]))
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}

// inYieldingCluster runs f in a cluster whose servers wait a little wherever they
// hand something over, by chance; reached is told where that was.
func inYieldingCluster(t *testing.T, seed uint64, reached map[string]int, f func(c *clusterTest)) {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, 8))
	yield := func(point string) {
		mu.Lock()
		reached[point]++
		wait := time.Duration(1 + dice.Int64N(int64(5*time.Microsecond)))
		mu.Unlock()
		<-time.After(wait)
	}
	options := ClusterOptions{Seed: seed, SyncDelay: 100 * time.Microsecond, Options: []Option{
		WithYield(yield), WithMaxSegmentBytes(64 << 10), WithSnapshotTrigger(40, 0),
	}}
	options.Configure = func(_ string, server Server) { server.AddEventListener(CommitEventType, func(Event) {}) }
	inCluster(t, 3, options, f)
}

// Clusters whose goroutines wait a little at every hand-over elect, commit, install
// snapshots and agree, and come by every place where they may be held up.
func TestHandOverAnywhere(t *testing.T) {
	reached := make(map[string]int)
	for seed := range uint64(20) {
		inYieldingCluster(t, seed, reached, func(c *clusterTest) {
			require.NoError(t, c.Bootstrap(c.ctx))
			c.puts("a", 1, 20)
			c.churn(seed)
			c.puts("z", 1, 3)
			c.converge()
		})
	}
	for _, point := range yieldPoints(t) {
		require.Positive(t, reached[point], "nobody comes by %q: %v", point, reached)
	}
	require.Len(t, reached, len(yieldPoints(t)), "%v", reached)
}

// churn has many clients at once while servers come and go: a follower falls behind
// a snapshot, a stream is refused for a while, the leader stops.
func (c *clusterTest) churn(seed uint64) {
	behind := c.followers()[seed%2]
	c.Crash(behind)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 40 {
				ctx, cancel := context.WithTimeout(c.ctx, 10*testElection)
				_, err := c.Do(ctx, &testCommand{fmt.Sprint("m", i, j)})
				cancel()
				if err == nil && j%10 == 0 {
					err = c.reads([]ReadLevel{Linearizable, Stale}[i%2])
				}
				if err != nil {
					c.t.Errorf("a healthy majority refused: %v", err)
				}
			}
		})
	}
	clients.Wait()
	// Nothing of a stream reaches the one that comes back, until single calls did.
	c.Network().Intercept(func(m MemoryMessage) bool { return m.Message != nil || m.To != behind })
	require.NoError(c.t, c.Start(behind))
	c.pass(3 * testElection)
	c.Network().Intercept(nil)
	c.converge()
	require.NoError(c.t, c.Restart(c.leader().Name()))
	_, err := c.WaitForLeader(c.ctx)
	require.NoError(c.t, err)
}

// reads has every server read.
func (c *clusterTest) reads(level ReadLevel) error {
	for _, s := range c.Servers() {
		if err := s.Read(c.ctx, level, func(StateMachine) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}
