package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The verdicts on a mutant.
const (
	caught  = "caught"
	hung    = "hung"   // caught, by a test that did not end
	missed  = "missed" // every test passes
	broken  = "broken" // the patch does not apply or compile
	unclear = "unclear"
)

// verdict is what became of a mutant.
type verdict struct {
	Mutant  string  `json:"mutant"`
	Row     string  `json:"row"`
	What    string  `json:"what"`
	Patch   string  `json:"patch"` // hash of the file
	Tree    string  `json:"tree"`  // hash of the tree
	Code    string  `json:"code"`  // hash of what of it is no test
	Verdict string  `json:"verdict"`
	Stage   string  `json:"stage,omitempty"`
	Package string  `json:"package,omitempty"`
	Test    string  `json:"test,omitempty"`
	Seconds float64 `json:"seconds"` // from the patch to the verdict, compiling included
	Note    string  `json:"note,omitempty"`
}

// A stage is some tests of one package.
type stage struct {
	name    string
	dir     string // of the package
	run     string // -test.run
	env     []string
	timeout time.Duration
}

// house matches the tests that hold the shape of the tree and the texts around it:
// that a patched line has another length is no catch.
const house = "^Test(Tidy|API|Readme)"

// bench is where mutants are tried: two copies of the tree, one of them patched.
type bench struct {
	clean    string
	patched  string
	scratch  string // for binaries and temporary files
	packages packages
	seeds    string
	limitKiB int
	verbose  bool
}

// stages are what a mutant has to pass, in order.
func (b *bench) stages(m *mutant) ([]stage, error) {
	var all []stage
	for _, h := range m.catches {
		if h.dir != "" {
			all = append(all, stage{name: "hint", dir: h.dir, run: h.expr, timeout: 2 * time.Minute})
			continue
		}
		for _, dir := range m.dirs() {
			all = append(all, stage{name: "hint", dir: dir, run: h.expr, timeout: 2 * time.Minute})
		}
	}
	touched := m.dirs()
	row := fmt.Sprintf("^TestFault([0-9]+_)*%03s_", m.row)
	for _, dir := range touched {
		all = append(all, stage{name: "row", dir: dir, run: row, timeout: 2 * time.Minute})
	}
	for _, dir := range touched {
		names, err := near(b.clean, dir, m)
		if err != nil {
			return nil, err
		}
		if names != "" {
			all = append(all, stage{name: "near", dir: dir, run: names, timeout: 3 * time.Minute})
		}
	}
	for _, dir := range b.packages.affected(touched) {
		all = append(all, stage{name: "suite", dir: dir, run: ".", timeout: 6 * time.Minute})
	}
	all = append(all, stage{name: "seeds", dir: ".", run: "^TestSoakShort$", env: []string{"SEEDS=" + b.seeds}, timeout: 10 * time.Minute})
	if simulated(b.clean) {
		all = append(all, stage{name: "seeds", dir: "simulation", run: "^TestSeeds$", env: []string{"SIM_SEEDS=1-" + b.seeds}, timeout: 10 * time.Minute})
	}
	return all, nil
}

// simulated reports whether the tree has the simulation of whole clusters.
func simulated(tree string) bool {
	files, err := filepath.Glob(filepath.Join(tree, "simulation", "*_test.go"))
	if err != nil {
		return false
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte("\nfunc TestSeeds(")) {
			return true
		}
	}
	return false
}

// try applies the mutant and runs its stages until one fails.
func (b *bench) try(m *mutant) (verdict, error) {
	began := time.Now()
	v := verdict{Mutant: m.name, Row: m.row, What: m.what, Patch: m.hash}
	end := func(what, note string) (verdict, error) {
		v.Verdict, v.Note, v.Seconds = what, note, time.Since(began).Seconds()
		return v, nil
	}
	defer m.revert(b.patched, b.clean)
	defer b.forget("patched")
	if err := m.apply(b.patched); err != nil {
		return end(broken, err.Error())
	}
	stages, err := b.stages(m)
	if err != nil {
		return v, err
	}
	var doubts []string
	for _, s := range stages {
		binary, err := b.compile("patched", s.dir)
		if err != nil {
			return end(broken, err.Error())
		}
		o := b.execute(binary, b.patched, &s)
		if o.passed {
			continue
		}
		v.Stage, v.Package, v.Test = s.name, s.dir, o.test
		if doubt := b.confirm(binary, &s, &o); doubt != "" {
			doubts = append(doubts, fmt.Sprintf("%s: %s", o.test, doubt))
			v.Stage, v.Package, v.Test = "", "", ""
			continue
		}
		if b.verbose {
			fmt.Println(o.said)
		}
		if o.timedOut {
			return end(hung, strings.Join(doubts, "; "))
		}
		return end(caught, strings.Join(doubts, "; "))
	}
	if len(doubts) > 0 {
		return end(unclear, strings.Join(doubts, "; "))
	}
	return end(missed, "")
}

// confirm says why a failure may not count: the same test fails without the patch,
// too, or did not fail again with it. One that did not end is not waited for again.
func (b *bench) confirm(binary string, s *stage, o *outcome) (doubt string) {
	again := *s
	if o.test != "" {
		top, _, _ := strings.Cut(o.test, "/")
		again.run = "^" + top + "$"
	}
	clean, err := b.compile("clean", s.dir)
	if err != nil {
		return err.Error()
	}
	if r := b.execute(clean, b.clean, &again); !r.passed {
		return "fails without the patch, too"
	}
	if o.timedOut {
		return ""
	}
	for range 3 {
		if r := b.execute(binary, b.patched, &again); !r.passed {
			return ""
		}
	}
	return "did not fail again"
}

// outcome is how a test binary ended.
type outcome struct {
	passed   bool
	timedOut bool
	test     string // that failed
	said     string
}

func (b *bench) binary(tree, dir string) string {
	return filepath.Join(b.scratch, tree+"-"+strings.NewReplacer("/", "-", ".", "root").Replace(dir)+".test")
}

// forget removes the binaries of a tree.
func (b *bench) forget(tree string) {
	names, _ := filepath.Glob(filepath.Join(b.scratch, tree+"-*.test"))
	for _, name := range names {
		_ = os.Remove(name)
	}
}

// compile makes the test binary of a package, once.
func (b *bench) compile(tree, dir string) (string, error) {
	binary := b.binary(tree, dir)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-o", binary)
	if dir == "simulation" {
		cmd.Args = append(cmd.Args, "-tags=simulation")
	}
	cmd.Args = append(cmd.Args, "./"+dir)
	cmd.Dir = filepath.Join(filepath.Dir(b.clean), tree)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
}

var (
	failedTest  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	runningTest = regexp.MustCompile(`running tests:\n\s+(\S+) `)
	begunTest   = regexp.MustCompile(`(?m)^=== RUN\s+(\S+)`)
)

// execute runs a test binary as go test would, with bounded time and memory.
func (b *bench) execute(binary, tree string, s *stage) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout+30*time.Second)
	defer cancel()
	shell := fmt.Sprintf(`ulimit -v %d; exec "$0" "$@"`, b.limitKiB)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", shell, binary, "-test.v", "-test.failfast",
		"-test.timeout="+s.timeout.String(), "-test.run="+s.run, "-test.skip="+house)
	cmd.Dir = filepath.Join(tree, filepath.FromSlash(s.dir))
	temp := filepath.Join(b.scratch, "temp")
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return outcome{said: err.Error()}
	}
	defer os.RemoveAll(temp) // a test that dies leaves its files
	cmd.Env = append(os.Environ(), append(s.env, "TMPDIR="+temp)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return outcome{passed: true}
	}
	said := out.String()
	o := outcome{said: said, timedOut: strings.Contains(said, "panic: test timed out after") || errors.Is(ctx.Err(), context.DeadlineExceeded)}
	for _, expr := range []*regexp.Regexp{failedTest, runningTest, begunTest} {
		if found := expr.FindAllStringSubmatch(said, -1); len(found) > 0 {
			o.test = found[len(found)-1][1] // the innermost comes last
			break
		}
	}
	return o
}
