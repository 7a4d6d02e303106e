package main

import (
	"maps"
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		s    series
		want float64
	}{
		{series{1: 5}, 5},
		{series{1: 9, 2: 1, 3: 4}, 4},
		{series{1: 9, 2: 1, 3: 4, 4: 6}, 5},
	} {
		if got := c.s.median(); got != c.want {
			t.Errorf("the median of %v is %v, want %v", c.s, got, c.want)
		}
	}
	if got := (series{}).median(); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
	if low, high := (series{1: 9, 2: 1, 3: 4}).spread(); low != 1 || high != 9 {
		t.Errorf("the spread is %v to %v", low, high)
	}
}

// A machine that is slow in one round is slow for all: the ratio of that round
// holds, that of the medians does not.
func TestRatiosAreTakenWithinARound(t *testing.T) {
	r := resultsOf(
		ran(1, ours, common, 50), ran(1, theFloor, common, 100),
		ran(2, ours, common, 300), ran(2, theFloor, common, 500),
		ran(3, ours, common, 140), ran(3, theFloor, common, 200),
		ran(4, ours, common, 1000), // the floor failed
		ran(5, theFloor, common, 1000),
	)
	got := r.ofFloor(ours, common, rate)
	if want := (series{1: 0.5, 2: 0.6, 3: 0.7}); !maps.Equal(got, want) {
		t.Fatalf("ratios %v, want %v", got, want)
	}
	if got.median() != 0.6 {
		t.Errorf("median %v", got.median())
	}
}

func TestBestPeerIsThatOfTheRound(t *testing.T) {
	r := resultsOf(
		ran(1, ours, common, 300), ran(1, "etcd", common, 100), ran(1, "hashicorp", common, 50),
		ran(2, ours, common, 300), ran(2, "etcd", common, 100), ran(2, "hashicorp", common, 150),
		ran(3, ours, common, 300), ran(3, theFloor, common, 900),
	)
	if got, want := r.ofBestPeer(ours, common), (series{1: 3, 2: 2}); !maps.Equal(got, want) {
		t.Errorf("ratios %v, want %v", got, want)
	}
}

func TestFailedRunsAreToldAndNotCounted(t *testing.T) {
	failed := run{Round: 2, System: "etcd", Cell: common, Err: "out of memory"}
	r := resultsOf(ran(1, "etcd", common, 100), failed)
	if got := r.of("etcd", common, rate); !maps.Equal(got, series{1: 100}) {
		t.Errorf("rates %v", got)
	}
	if got := r.failures(common, "etcd"); !strings.HasSuffix(got, "etcd: 1 of 2 runs failed: out of memory") {
		t.Errorf("told %q", got)
	}
	if err := r.ownFailures(); err != nil {
		t.Errorf("a peer's failure fails the whole: %v", err)
	}
	failed.System = ours
	r.add(failed)
	if err := r.ownFailures(); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("our failure is told as %v", err)
	}
}
