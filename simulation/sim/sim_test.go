package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The guest of these tests is testdata/toy; the last digit of a seed says what it
// plants.
const toy = "./testdata/toy"

// toyDir outlives a test, so that the guest is built once.
var toyDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sim-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	toyDir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// sim runs a command of the program on the toy and wants its exit code.
func sim(t *testing.T, code int, command string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to build the guest with")
	}
	var out, errs bytes.Buffer
	words := append([]string{command, "-guest", toy, "-cache", toyDir, "-built", toyDir}, args...)
	if got := run(t.Context(), words, &out, &errs); got != code {
		t.Fatalf("sim %q: exit code %d, want %d\n%s%s", words, got, code, &out, &errs)
	}
	return out.String() + errs.String()
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}

// printedCommand finds the command that was printed behind a word, ready to run.
func printedCommand(t *testing.T, text, word string) []string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + word + `: +go run ./simulation/sim (.*)$`).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no command to %s in:\n%s", word, text)
	}
	return strings.Fields(found[1])
}

func TestRunsRepeat(t *testing.T) {
	out := sim(t, exitOK, "check", "-first", "11", "-seeds", "2", "-interpreted", "1")
	wantText(t, out, "-seed 11 -short compiled and interpreted: hash ", "-seed 12 twice: hash ", "2 seeds twice and 1 interpreted: all equal")
}

// TestCheckTellsWhatFails: a pair that is equal but fails is no success.
func TestCheckTellsWhatFails(t *testing.T) {
	out := sim(t, exitFailed, "check", "-first", "3", "-seeds", "1", "-interpreted", "0")
	wantText(t, out, "planted: two actions met", "1 of 1 pairs differ or fail")
}

// TestPlantedFailureReplays runs natively, replays with the command that was
// printed, and shrinks with the other one.
func TestPlantedFailureReplays(t *testing.T) {
	out := sim(t, exitFailed, "run", "-first", "1", "-seeds", "3")
	wantText(t, out, "seed 3 failed (native, check):", "planted: two actions met: at 17", "1 of 3 seeds failed", "3 of 3")

	replay := printedCommand(t, out, "replay")
	trace := sim(t, exitFailed, replay[0], replay[1:]...)
	wantText(t, trace, "action 5", "action 17", "got ", "seed 3 failed (check):\nplanted: two actions met: at 17\nand so on")
	if again := sim(t, exitFailed, replay[0], replay[1:]...); again != trace {
		t.Error("two replays differ")
	}

	shrink := printedCommand(t, out, "shrink")
	small := sim(t, exitFailed, "replay", printedCommand(t, sim(t, exitOK, shrink[0], shrink[1:]...), "replay")[1:]...)
	wantText(t, small, "planted: two actions met")
	if n := strings.Count(small, " action "); n != 2 {
		t.Errorf("%d actions are left, want the two planted:\n%s", n, small)
	}
}

// TestDeathsAreReported: a panic and a deadlock end the guest before it reports,
// and the seeds behind it run all the same.
func TestDeathsAreReported(t *testing.T) {
	for _, way := range []string{"-wasm=false", "-wasm=true"} {
		out := sim(t, exitFailed, "run", "-first", "4", "-seeds", "2", "-failures", "5", "-batch", "2", "-workers", "1", way)
		wantText(t, out, "panic: planted panic", "toy_test.go:", "(deadlock):", "panic: deadlock: all goroutines in bubble are blocked", "2 of 2 seeds failed")
	}
	out := sim(t, exitOK, "minimize", "-seed", "4")
	wantText(t, out, "1 actions are left", ": 9\n")
}

func TestLivelockEnds(t *testing.T) {
	out := sim(t, exitFailed, "replay", "-seed", "6", "-budget", "20000")
	wantText(t, out, "action 3", "seed 6 failed (hang):\nlivelock", "toy.__toy_.plant")
}

// TestSilenceEnds: a process that says nothing more is made to show its stacks.
func TestSilenceEnds(t *testing.T) {
	l, err := newLaboratory(toy, toyDir, toyDir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.silence = time.Second
	p, err := l.native(t.Context(), buildNative, false)
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.seeds(t.Context(), 8, 1)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if all[0].kind != failedHang || all[0].Seed != 8 {
		t.Errorf("seed %d, %s: %s", all[0].Seed, all[0].kind, all[0].Failure)
	}
	wantText(t, all[0].Failure, "hang: no report in 1s", "(*toy).run")
}

// TestSpinEnds: a guest that does not even read its clock needs a limit.
func TestSpinEnds(t *testing.T) {
	out := sim(t, exitFailed, "replay", "-seed", "8", "-neighbour", "1", "-limit", "3s")
	wantText(t, out, "action 2", "seed 8 failed (hang):\nhang: the limit of real time is reached")
}

// TestOtherSchedule: what fails natively and not in wasm leaves its trace, and a
// neighbouring schedule that fails is found.
func TestOtherSchedule(t *testing.T) {
	keep := t.TempDir()
	if err := os.WriteFile(filepath.Join(keep, "seed-7.trace"), []byte("of an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := sim(t, exitFailed, "run", "-first", "7", "-seeds", "1", "-keep", keep, "-neighbours", "5")
	wantText(t, out, "it does not fail in wasm", "it failed natively again, at try 1 of 10", "neighbour 2 fails:")
	kept, err := os.ReadFile(filepath.Join(keep, "seed-7.trace"))
	if err != nil || bytes.Count(kept, []byte("action 39")) != 1 || bytes.Contains(kept, []byte("earlier")) {
		t.Errorf("the native trace: %v\n%s", err, kept)
	}
	replay := printedCommand(t, out, "replay")
	wantText(t, sim(t, exitFailed, replay[0], replay[1:]...), "planted: a schedule")

	out = sim(t, exitFailed, "run", "-first", "10", "-seeds", "1", "-keep", keep, "-neighbours", "3")
	wantText(t, out, "none of 3 neighbouring schedules fails")
}

// TestRunGoesOn: a run that was ended and went on has the sums of one that was
// not.
func TestRunGoesOn(t *testing.T) {
	whole, parts := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "parts")
	sim(t, exitOK, "run", "-first", "11", "-seeds", "2", "-state", parts)
	sim(t, exitFailed, "run", "-seeds", "4", "-failures", "5", "-state", parts)
	sim(t, exitFailed, "run", "-first", "11", "-seeds", "4", "-failures", "5", "-state", whole)
	var sums [2]*tally
	for i, file := range []string{whole, parts} {
		var err error
		if sums[i], err = loadTally(file, "native", 1); err != nil {
			t.Fatal(err)
		}
		if sums[i].Virtual == 0 || sums[i].CPU == 0 || sums[i].Wall == 0 {
			t.Errorf("%s measured nothing: %+v", file, sums[i])
		}
		sums[i].CPU, sums[i].Wall = 0, 0
	}
	if a, b := fmt.Sprintf("%+v", *sums[0]), fmt.Sprintf("%+v", *sums[1]); a != b {
		t.Errorf("in one go and in two:\n%s\n%s", a, b)
	}
	if sums[0].Next != 15 || len(sums[0].Failures) != 2 {
		t.Errorf("next seed %d, failures %v", sums[0].Next, sums[0].Failures)
	}
	wantText(t, sim(t, exitFailed, "run", "-seeds", "5", "-state", parts, "-wasm"), "holds the sums of native runs")
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "COMMAND"},
		{"-h", exitOK, "COMMAND"},
		{"walk", exitUsage, `no command "walk"`},
		{"run", exitUsage, "how much?"},
		{"run -seeds 1 -race -wasm", exitUsage, "no race detector"},
		{"replay -seed 1 2", exitUsage, `what is "2"?`},
		{"replay -skip 3,2", exitUsage, "does not rise"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), &out, &errs)
		if code != c.code {
			t.Errorf("sim %s: exit code %d, want %d", c.args, code, c.code)
		}
		wantText(t, out.String()+errs.String(), c.says)
	}
}
