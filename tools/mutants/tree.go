package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// skipped are the directories that no test of the library looks at, or that may be large.
var skipped = []string{".git", "bin", "mutants"}

// copyTree copies the source tree.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		switch {
		case err != nil:
			return err
		case slices.Contains(skipped, rel) && d.IsDir():
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(name, filepath.Join(to, rel))
	})
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// hashTree names all that decides what the tests of the library say, its own files
// and those of the simulation, and what of it is no test.
func hashTree(dir string) (tree, code string, err error) {
	sum, shipped := sha256.New(), sha256.New()
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if d.IsDir() {
			if slices.Contains(append([]string{"cmd", "docs", "examples", "tools"}, skipped...), rel) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(rel) == ".md" || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(name)
		fmt.Fprintf(sum, "%s %d\n%s", rel, len(b), b)
		if path.Ext(rel) == ".go" && !strings.HasSuffix(rel, "_test.go") && !strings.HasPrefix(rel, "simulation") {
			fmt.Fprintf(shipped, "%s %d\n%s", rel, len(b), b)
		}
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:8]), hex.EncodeToString(shipped.Sum(nil)[:8]), err
}

// packages are the directories of the library's packages with what each one's
// tests depend on, as directories, too.
type packages map[string][]string

func loadPackages(tree string) (packages, error) {
	cmd := exec.Command("go", "list", "-test", "-f", `{{.ImportPath}} {{.Module.Path}} {{join .Deps ","}}`, "./...")
	cmd.Dir = tree
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	all := packages{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		binary, ok := strings.CutSuffix(words[0], ".test")
		if !ok || len(words) < 3 {
			continue
		}
		module := words[1]
		dir := func(p string) string { return path.Clean("./" + strings.TrimPrefix(p, module)) }
		needs := []string{}
		for dep := range strings.SplitSeq(strings.Join(words[2:], " "), ",") {
			dep, _, _ = strings.Cut(dep, " ")
			if dep == module || strings.HasPrefix(dep, module+"/") {
				needs = append(needs, dir(dep))
			}
		}
		all[dir(binary)] = needs
	}
	return all, nil
}

// affected returns the packages whose tests a change of some directories can reach,
// those directories first.
func (p packages) affected(dirs []string) []string {
	var reached []string
	for dir, needs := range p {
		if !slices.Contains(dirs, dir) && slices.ContainsFunc(needs, func(n string) bool { return slices.Contains(dirs, n) }) {
			reached = append(reached, dir)
		}
	}
	slices.Sort(reached)
	tested := slices.DeleteFunc(slices.Clone(dirs), func(d string) bool { _, ok := p[d]; return !ok })
	return append(tested, reached...)
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)

// ruleFiles are the protocol without the loops around it; what is wrong with them
// shows in the tests of the rules.
var ruleFiles = []string{
	"replica.go", "election.go", "leadership.go", "progress.go", "configuration.go", "history.go", "intents.go",
}

// near are the tests of a package that are closest to a patch: those of the rules,
// and those in the files named after the ones it touches.
func near(tree, dir string, m *mutant) (string, error) {
	patterns := []string{"model_test.go"}
	for _, f := range m.files {
		if path.Dir(f.name) == dir {
			if slices.Contains(ruleFiles, f.name) {
				patterns = append(patterns, "rules_*_test.go", "paper_*_test.go", "script_test.go")
			}
			patterns = append(patterns, strings.TrimSuffix(path.Base(f.name), ".go")+"*_test.go")
		}
	}
	var names []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(tree, filepath.FromSlash(dir), pattern))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			for _, found := range testFunction.FindAllStringSubmatch(string(text), -1) {
				names = append(names, found[1])
			}
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	slices.Sort(names)
	return "^(" + strings.Join(slices.Compact(names), "|") + ")$", nil
}

// output runs a command; its error carries what the command said.
func output(cmd *exec.Cmd) ([]byte, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said.Bytes())
	}
	return out.Bytes(), nil
}
