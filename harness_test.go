package raft

import (
	"os"
	"testing"
)

// volume is how much of something a run does: the default run, the one of CI, the
// long one. The environment variable STORAGE says which.
func volume(short, ci, long int) int {
	return chosen(int(scale(uint64(short))), ci, long)
}

// oneOf is of how many one is looked at: the other way around than volume.
func oneOf(short, ci, long int) int {
	if testing.Short() || raceDetector {
		short *= 10
	}
	return chosen(short, ci, long)
}

func chosen(short, ci, long int) int {
	switch os.Getenv("STORAGE") {
	case "ci":
		return ci
	case "long":
		return long
	}
	return short
}

// scale cuts a number of repetitions down where they are slow: with -short, and
// under the race detector, which one goroutine has little to tell.
func scale(n uint64) uint64 {
	if testing.Short() || raceDetector {
		return min(n, max(n/10, 2))
	}
	return n
}
