// Command mutants re-introduces bugs of the catalogue into a copy of the library,
// one at a time, and looks which test notices. A bug is a patch in mutants/; what
// the tests do not notice is a hole in the tests.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type config struct {
	tree, only, results, table string
	seeds                      string
	n, rotate, memory          int
	check, resume, baseline    bool
	quick, simulate            bool
	verbose                    bool
}

func main() {
	var c config
	flag.StringVar(&c.tree, "tree", ".", "root of the source tree")
	flag.StringVar(&c.only, "only", "", "only mutants whose names contain one of these, separated by commas")
	flag.StringVar(&c.results, "results", "", "add the verdicts to this file")
	flag.StringVar(&c.table, "table", "", "write the table of all verdicts to this file")
	flag.StringVar(&c.seeds, "seeds", "40", "seeds for what the suite does not catch")
	flag.IntVar(&c.n, "n", 0, "only so many mutants, in rotation; 0 is all")
	flag.IntVar(&c.rotate, "rotate", 0, "which turn of the rotation it is")
	flag.IntVar(&c.memory, "memory", 4<<10, "address space of a test, in MiB")
	flag.BoolVar(&c.check, "check", false, "only see that all patches apply and compile")
	flag.BoolVar(&c.resume, "resume", false, "skip what the results have for the same patch and tree")
	flag.BoolVar(&c.baseline, "baseline", false, "first see that all tests pass without a patch")
	flag.BoolVar(&c.quick, "quick", false, "only the tests named after the row and those next to the patch; what they miss is left open")
	flag.BoolVar(&c.simulate, "sim", false, "only the simulation of whole clusters, one seed after the other: how many does it take?")
	flag.BoolVar(&c.verbose, "v", false, "show what the failing test said")
	flag.Parse()
	if err := run(&c); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(c *config) error {
	root, err := filepath.Abs(c.tree)
	if err != nil {
		return err
	}
	all, err := loadMutants(filepath.Join(root, "mutants"))
	if err != nil {
		return err
	}
	chosen := choose(all, c)
	if len(chosen) == 0 {
		return errors.New("no such mutant")
	}
	b, err := newBench(root, c)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.scratch)
	if err := b.weave(chosen); err != nil {
		return err
	}
	if c.check {
		return b.check(chosen)
	}
	if c.baseline {
		if err := b.baseline(); err != nil {
			return err
		}
	}
	return b.runAll(chosen, c)
}

// choose picks by name, and then so many in rotation.
func choose(all []*mutant, c *config) []*mutant {
	if c.only != "" {
		words := strings.Split(c.only, ",")
		all = slices.DeleteFunc(all, func(m *mutant) bool {
			return !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(m.name, w) })
		})
	}
	if c.n <= 0 || c.n >= len(all) {
		return all
	}
	// Neighbours in the list are bugs of one file: a turn takes every k-th instead.
	turns := (len(all) + c.n - 1) / c.n
	var chosen []*mutant
	for i := ((c.rotate % turns) + turns) % turns; i < len(all); i += turns {
		chosen = append(chosen, all[i])
	}
	return chosen
}

// newBench makes the two copies of the tree.
func newBench(root string, c *config) (*bench, error) {
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	b := &bench{scratch: scratch, clean: filepath.Join(scratch, treeClean), seeds: c.seeds, limitKiB: c.memory << 10, verbose: c.verbose, quick: c.quick, simulate: c.simulate}
	err = copyTree(b.clean, root)
	for _, name := range []string{treePatched, treeWoven} {
		if err == nil {
			err = copyTree(b.tree(name), b.clean)
		}
	}
	if err == nil {
		b.packages, err = loadPackages(b.clean)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(scratch))
	}
	return b, nil
}

// weave makes the tree of the mutants that can share one.
func (b *bench) weave(all []*mutant) error {
	w := &weaver{clean: b.clean, files: map[string]*wovenFile{}}
	b.woven = map[string]bool{}
	for _, m := range all {
		switch err := w.add(m); {
		case err == nil:
			b.woven[m.name] = true
		case err != errAlone:
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return w.write(b.tree(treeWoven))
}

// baseline runs all tests that a mutant may meet without one.
func (b *bench) baseline() error {
	m := &mutant{row: "0", files: []filePatch{{name: "internal/vfs/none.go"}}}
	stages, err := b.stages(m)
	if err != nil {
		return err
	}
	for _, s := range stages {
		if s.name != "suite" && s.name != "seeds" {
			continue
		}
		began := time.Now()
		_, err := b.compile(treeWoven, s.dir)
		if err != nil {
			return err
		}
		if o := b.execute(trial{tree: treeWoven}, &s); !o.passed {
			return fmt.Errorf("without a patch %s of %s fails:\n%s", o.test, s.dir, o.said)
		}
		fmt.Printf("without a patch %s of %s pass, %.1f s\n", s.name, s.dir, time.Since(began).Seconds())
	}
	return nil
}

// runAll tries the mutants and tells the score. A miss is an error.
func (b *bench) runAll(chosen []*mutant, c *config) error {
	tree, code, err := hashTree(b.clean)
	if err != nil {
		return err
	}
	known := map[string]verdict{}
	if c.resume && c.results != "" {
		if known, err = readVerdicts(c.results); err != nil {
			return err
		}
	}
	var all []verdict
	for _, m := range chosen {
		// Tests that were added since take no catch back.
		v, ok := known[m.name]
		if ok && v.Patch == m.hash && (v.Tree == tree || v.Code == code && v.caught()) {
			all = append(all, v)
			continue
		}
		if v, err = b.try(m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		v.Tree, v.Code = tree, code
		fmt.Println(v.line())
		if c.results != "" && v.Verdict != open {
			if err := writeVerdict(c.results, &v); err != nil {
				return err
			}
		}
		all = append(all, v)
	}
	if c.table != "" {
		if err := os.WriteFile(c.table, []byte(table(all)), 0o644); err != nil {
			return err
		}
	}
	fmt.Println(score(all))
	bad := slices.ContainsFunc(all, func(v verdict) bool { return !v.caught() })
	if bad {
		return errors.New("not all were caught")
	}
	return nil
}

// check sees that every patch applies and compiles: all that can share a tree
// together, the others alone. Where that fails, those that touch a file which the
// compiler names are compiled alone.
func (b *bench) check(all []*mutant) error {
	together := b.build(treeWoven)
	var wrong []error
	for _, m := range all {
		if b.woven[m.name] && !(together != nil && m.touches(together.Error())) {
			continue
		}
		err := m.apply(b.tree(treePatched))
		if err == nil {
			err = b.build(treePatched)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", m.name, err))
		}
		if err := m.revert(b.tree(treePatched), b.clean); err != nil {
			return err
		}
	}
	if len(wrong) == 0 && together != nil {
		wrong = append(wrong, together)
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	fmt.Printf("%d patches apply and compile\n", len(all))
	return nil
}

// touches reports whether a message names a file of the patch.
func (m *mutant) touches(said string) bool {
	return slices.ContainsFunc(m.files, func(f filePatch) bool { return strings.Contains(said, f.name+":") })
}

func (b *bench) build(tree string) error {
	cmd := exec.Command("go", "build", "./...")
	cmd.Dir = b.tree(tree)
	_, err := output(cmd)
	return err
}
