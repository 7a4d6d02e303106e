package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// reportPrefix begins the line with which the guest reports a seed.
const reportPrefix = "SIMULATION "

// A report is what the guest says about one seed.
type report struct {
	Seed      uint64           `json:"seed"`
	Neighbour uint64           `json:"neighbour"`
	Hash      string           `json:"hash"` // of the trace
	Failure   string           `json:"failure"`
	VirtualNS int64            `json:"virtual_ns"`
	Servers   int              `json:"servers"`
	Actions   int              `json:"actions"`
	Faults    map[string]int64 `json:"faults"` // every kind that there is, at 0 too
	Checks    map[string]int64 `json:"checks"`
}

// An outcome is what became of one seed. Where the guest died of it, Failure is
// ours and most of the report is empty.
type outcome struct {
	report
	kind   failureKind
	output string // what the guest printed besides reports
	memory string // SHA-256 of the guest's memory, if asked for
	lines  int    // of trace, in wasm
	clock  int64  // readings of the clock, in wasm
}

func (o *outcome) failed() bool { return o.Failure != "" }

// failureKind says how a seed failed: it decides what can be done about it.
type failureKind string

const (
	failedCheck    failureKind = "check" // the guest itself says so
	failedPanic    failureKind = "panic"
	failedDeadlock failureKind = "deadlock"
	failedHang     failureKind = "hang"
	failedRace     failureKind = "race"
	failedGuest    failureKind = "guest" // it does not keep to the contract
)

// parseReport reads a line of the guest; ok says that it is a report.
func parseReport(line []byte) (r report, ok bool, err error) {
	text, ok := bytes.CutPrefix(line, []byte(reportPrefix))
	if !ok {
		return r, false, nil
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, true, fmt.Errorf("%q: %w", line, err)
	}
	return r, true, nil
}

// deathLines are how Go and its race detector begin the last words of a process.
var deathLines = []struct {
	kind  failureKind
	begin *regexp.Regexp
}{
	{failedRace, regexp.MustCompile(`(?m)^WARNING: DATA RACE`)},
	{failedDeadlock, regexp.MustCompile(`(?m)^(fatal error: all goroutines are asleep|panic: deadlock: |fatal error: .*deadlock)`)},
	{failedPanic, regexp.MustCompile(`(?m)^(panic: |fatal error: )`)},
}

// diagnose says of what the guest died, from what it printed.
func diagnose(output, how string) (failureKind, string) {
	for _, death := range deathLines {
		if at := death.begin.FindStringIndex(output); at != nil {
			return death.kind, strings.TrimSpace(output[at[0]:])
		}
	}
	return failedGuest, "the guest ended without a report, " + how
}

var digits = regexp.MustCompile(`[0-9]+`)

// signature is what two failures share that are the same to whoever shrinks one:
// the first line up to its second colon, whatever its numbers.
func signature(failure string) string {
	first, _, _ := strings.Cut(failure, "\n")
	if parts := strings.SplitN(first, ": ", 3); len(parts) == 3 {
		first = parts[0] + ": " + parts[1]
	}
	return digits.ReplaceAllString(first, "#")
}

// A tape keeps the first part of what is written to it, so that a guest that
// prints for ever fills no memory.
type tape struct{ kept []byte }

const tapeLength = 256 << 10

func (t *tape) Write(p []byte) (int, error) {
	room := tapeLength - len(t.kept)
	t.kept = append(t.kept, p[:min(room, len(p))]...)
	return len(p), nil
}

// A lineSplitter hands on what is written to it line by line.
type lineSplitter struct {
	line func([]byte)
	rest []byte
}

func (s *lineSplitter) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		line, rest, ok := bytes.Cut(s.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		s.line(line)
		s.rest = rest
	}
}

// close hands on a last line that did not end.
func (s *lineSplitter) close() {
	if len(s.rest) > 0 {
		s.line(s.rest)
	}
	s.rest = nil
}
