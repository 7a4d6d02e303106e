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
	"slices"
	"strconv"
	"strings"
	"time"
)

// The verdicts on a mutant.
const (
	caught = "caught"
	hung   = "hung"   // caught, by a test that did not end
	missed = "missed" // every test passes
	broken = "broken" // the patch does not apply or compile
	open   = "open"   // not caught by the tests that a quick run tries
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
	Seeds   int     `json:"seeds,omitempty"` // of the simulation, up to the one that failed
	Seconds float64 `json:"seconds"`         // from the patch to the verdict, compiling included
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

// bench is where mutants are tried. It has three copies of the tree: as it is, with
// one patch, and with all mutants woven in.
type bench struct {
	scratch  string // for the trees, binaries and temporary files
	clean    string
	packages packages
	woven    map[string]bool // names of the mutants that are
	leftOut  []string        // tests that fail without a mutant, too
	seeds    string
	limitKiB int
	verbose  bool
	quick    bool
	simulate bool
}

// The names of the trees.
const (
	treeClean   = "clean"
	treePatched = "patched"
	treeWoven   = "woven"
)

func (b *bench) tree(name string) string { return filepath.Join(b.scratch, name) }

// stages are what a mutant has to pass, in order.
func (b *bench) stages(m *mutant) ([]stage, error) {
	if b.simulate {
		return b.simulations()
	}
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
	for _, dir := range b.packages.affected(touched) {
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
	if b.quick {
		return all, nil
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

// simulations are the seeds of the simulation, each a stage.
func (b *bench) simulations() ([]stage, error) {
	n, err := strconv.Atoi(b.seeds)
	if err != nil || !simulated(b.clean) {
		return nil, fmt.Errorf("no simulation of %q seeds", b.seeds)
	}
	var all []stage
	for seed := range n {
		all = append(all, stage{name: "simulation", dir: "simulation", run: "^TestSeeds$", env: []string{fmt.Sprintf("SIM_SEEDS=%d", seed+1)}, timeout: 2 * time.Minute})
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

// trial is a mutant at work: a tree, and what its test binaries find in their
// environment.
type trial struct {
	tree   string
	active string // the mutant in force in the woven tree
}

// try runs the mutant's stages until one fails.
func (b *bench) try(m *mutant) (verdict, error) {
	began := time.Now()
	v := verdict{Mutant: m.name, Row: m.row, What: m.what, Patch: m.hash}
	end := func(what, note string) (verdict, error) {
		v.Verdict, v.Note, v.Seconds = what, note, time.Since(began).Seconds()
		return v, nil
	}
	with, err := b.prepare(m)
	if err != nil {
		return end(broken, err.Error())
	}
	if with.tree == treeWoven {
		began = time.Now() // what all of them share is nobody's
	} else {
		defer m.revert(b.tree(treePatched), b.clean)
		defer b.forget(treePatched)
	}
	stages, err := b.stages(m)
	if err != nil {
		return v, err
	}
	var doubts []string
	common := b.leftOut
	defer func() { b.leftOut = common }()
	for i := 0; i < len(stages); {
		s := &stages[i]
		if _, err := b.compile(with.tree, s.dir); err != nil {
			return end(broken, err.Error())
		}
		o := b.execute(with, s)
		if o.passed {
			i++
			continue
		}
		doubt, always := b.confirm(with, s, &o)
		switch {
		case doubt != "" && o.test != "" && !b.simulate: // which has no other test
			// The stage is run again without it, and so are those of the next mutants if
			// this one has nothing to do with it.
			b.leftOut = append(slices.Clip(b.leftOut), top(o.test))
			if always {
				fmt.Printf("left out: %s of %s %s\n", o.test, s.dir, doubt)
				common = append(slices.Clip(common), top(o.test))
			} else {
				doubts = append(doubts, fmt.Sprintf("%s %s", o.test, doubt))
			}
			continue
		case doubt != "":
			doubts = append(doubts, doubt)
			i++
			continue
		}
		if b.verbose {
			fmt.Println(o.said)
		}
		v.Stage, v.Package, v.Test = s.name, s.dir, o.test
		if b.simulate {
			v.Seeds, doubts = i+1, append(doubts, o.reason())
		}
		if o.timedOut {
			return end(hung, strings.Join(doubts, "; "))
		}
		return end(caught, strings.Join(doubts, "; "))
	}
	if b.quick {
		return end(open, strings.Join(doubts, "; "))
	}
	return end(missed, strings.Join(doubts, "; "))
}

// prepare puts the mutant into force, in the tree of all or in one of its own.
func (b *bench) prepare(m *mutant) (trial, error) {
	if !b.woven[m.name] {
		err := m.apply(b.tree(treePatched))
		if err != nil {
			err = errors.Join(err, m.revert(b.tree(treePatched), b.clean))
		}
		return trial{treePatched, ""}, err
	}
	for _, dir := range m.dirs() {
		if _, err := b.compile(treeWoven, dir); err != nil {
			return trial{}, err
		}
	}
	return trial{treeWoven, m.name}, nil
}

// top is the test that a subtest belongs to.
func top(test string) string {
	name, _, _ := strings.Cut(test, "/")
	return name
}

// confirm says why a failure may not count: the same test fails without the mutant,
// too (always), or did not fail again with it. One that did not end is not waited
// for again, and neither is a seed of the simulation: outside of wasm the schedule
// is another one each time. It has to pass without the mutant, each time.
func (b *bench) confirm(with trial, s *stage, o *outcome) (doubt string, always bool) {
	again := *s
	if o.test != "" {
		again.run = "^" + top(o.test) + "$"
	}
	without := trial{treeWoven, ""}
	if with.tree != treeWoven {
		without.tree = treeClean
	}
	if _, err := b.compile(without.tree, s.dir); err != nil {
		return err.Error(), false
	}
	passes := func(with trial) bool { return b.execute(with, &again).passed }
	if !passes(without) || b.simulate && !(passes(without) && passes(without)) {
		return "fails without the mutant, too", o.test != ""
	}
	if o.timedOut || b.simulate {
		return "", false
	}
	for range 3 {
		if !passes(with) {
			return "", false
		}
	}
	return "did not fail again", false
}

// outcome is how a test binary ended.
type outcome struct {
	passed   bool
	timedOut bool
	test     string // that failed
	said     string
}

// reason is what a simulation says first of why it failed.
func (o *outcome) reason() string { return violation.FindString(o.said) }

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
	cmd.Dir = b.tree(tree)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
}

var (
	failedTest  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	runningTest = regexp.MustCompile(`running tests:\n\s+(\S+) `)
	violation   = regexp.MustCompile(`(?m)(seed [0-9]+: .*|^panic: .*)$`)
	begunTest   = regexp.MustCompile(`(?m)^=== RUN\s+(\S+)`)
)

// execute runs a test binary as go test would, with bounded time and memory.
func (b *bench) execute(with trial, s *stage) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout+30*time.Second)
	defer cancel()
	shell := fmt.Sprintf(`ulimit -v %d; exec "$0" "$@"`, b.limitKiB)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", shell, b.binary(with.tree, s.dir), "-test.v", "-test.failfast",
		"-test.timeout="+s.timeout.String(), "-test.run="+s.run, "-test.skip="+strings.Join(append([]string{house}, b.leftOut...), "$|^"))
	cmd.Dir = filepath.Join(b.tree(with.tree), filepath.FromSlash(s.dir))
	temp := filepath.Join(b.scratch, "temp")
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return outcome{said: err.Error()}
	}
	defer os.RemoveAll(temp) // a test that dies leaves its files
	cmd.Env = append(os.Environ(), append(s.env, "TMPDIR="+temp, activeVariable+"="+with.active)...)
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
