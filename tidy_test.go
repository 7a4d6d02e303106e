package raft_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The tests in the tidy files hold the shape of the source tree: what is where,
// which way imports run, who may start goroutines. The rules are in
// tidy_rules_test.go and tidy_module_test.go, each beside the list of what it
// allows and the reason; tidy_bite_test.go shows that each of them bites.

// A goFile is one Go source file, parsed.
type goFile struct {
	path   string // from the root of the tree, with slashes
	module string // directory of the go.mod it belongs to, "." for the library
	text   string
	fset   *token.FileSet
	syntax *ast.File
}

// A finding is one breach of a rule.
type finding struct {
	line int
	what string
}

// A rule looks at one file at a time. The reason ends every message, so that
// whoever meets the rule need not look for its author.
type rule struct {
	name   string
	reason string
	applies
	check func(f *goFile) []finding
}

// applies says which files a rule looks at.
type applies func(f *goFile) bool

func parseGoFile(name, module, text string) (*goFile, error) {
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &goFile{path: name, module: module, text: text, fset: fset, syntax: syntax}, nil
}

// run returns the messages of the rule about one file, by line.
func (r *rule) run(f *goFile) []string {
	if r.applies != nil && !r.applies(f) {
		return nil
	}
	all := r.check(f)
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.what, b.what)) })
	var messages []string
	for _, found := range all {
		messages = append(messages, fmt.Sprintf("%s:%d: %s: %s (%s)", f.path, found.line, r.name, found.what, r.reason))
	}
	return messages
}

func (f *goFile) dir() string     { return path.Dir(f.path) }
func (f *goFile) base() string    { return path.Base(f.path) }
func (f *goFile) isTest() bool    { return strings.HasSuffix(f.path, "_test.go") }
func (f *goFile) generated() bool { return strings.HasSuffix(f.path, ".pb.go") }

// inLibrary says that the file belongs to the library module, not to a nested one.
func (f *goFile) inLibrary() bool { return f.module == "." }

// inRoot says that the file is one of package raft, tests included.
func (f *goFile) inRoot() bool { return f.dir() == "." }

func (f *goFile) line(p token.Pos) int { return f.fset.Position(p).Line }

func (f *goFile) at(n ast.Node, format string, args ...any) finding {
	return finding{f.line(n.Pos()), fmt.Sprintf(format, args...)}
}

// imports yields the import paths of the file.
func (f *goFile) imports() map[string]*ast.ImportSpec {
	all := make(map[string]*ast.ImportSpec)
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			all[p] = spec
		}
	}
	return all
}

// nameOf is the name under which the file knows the package at an import path,
// or "" if it does not import it. A dot import is refused by its own rule.
func (f *goFile) nameOf(importPath string) string {
	spec, ok := f.imports()[importPath]
	switch {
	case !ok:
		return ""
	case spec.Name != nil:
		return spec.Name.Name
	default:
		return path.Base(importPath)
	}
}

// uses finds the selectors of a package: uses("os", isFileFunction).
func (f *goFile) uses(importPath string, wanted func(name string) bool) []*ast.SelectorExpr {
	name := f.nameOf(importPath)
	if name == "" {
		return nil
	}
	var found []*ast.SelectorExpr
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == name && x.Obj == nil && wanted(s.Sel.Name) {
				found = append(found, s)
			}
		}
		return true
	})
	return found
}

// oneOf makes a predicate of a list.
func oneOf(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

// matches says whether name is in the list, where "codec*" stands for every
// name that starts with codec.
func matches(list []string, name string) bool {
	return slices.ContainsFunc(list, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// A tree is everything the rules look at.
type tree struct {
	files   []*goFile
	modules map[string]string // go.mod of each module's directory
}

// loadTree reads the whole tree, nested modules included.
func loadTree(t *testing.T) *tree {
	t.Helper()
	loaded := &tree{modules: make(map[string]string)}
	texts := make(map[string]string)
	root := os.DirFS(".")
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if d.Name() != "go.mod" && path.Ext(p) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		if d.Name() == "go.mod" {
			loaded.modules[path.Dir(p)] = string(text)
		} else {
			texts[p] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		f, err := parseGoFile(name, loaded.moduleOf(name), text)
		if err != nil {
			t.Fatal(err)
		}
		loaded.files = append(loaded.files, f)
	}
	slices.SortFunc(loaded.files, func(a, b *goFile) int { return cmp.Compare(a.path, b.path) })
	return loaded
}

// moduleOf is the nearest directory above the file that has a go.mod.
func (t *tree) moduleOf(file string) string {
	dir := path.Dir(file)
	for ; dir != "."; dir = path.Dir(dir) {
		if _, ok := t.modules[dir]; ok {
			break
		}
	}
	return dir
}

// TestTidy holds every file of the tree to the rules.
func TestTidy(t *testing.T) {
	loaded := loadTree(t)
	for _, r := range rules {
		t.Run(strings.ReplaceAll(r.name, " ", "-"), func(t *testing.T) {
			for _, f := range loaded.files {
				for _, message := range r.run(f) {
					t.Error(message)
				}
			}
		})
	}
	t.Run("modules", func(t *testing.T) {
		work, err := os.ReadFile("go.work")
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range checkModules(loaded.modules, string(work)) {
			t.Error(message)
		}
	})
	t.Run("mutexes", func(t *testing.T) {
		for _, message := range checkMutexes(loaded.files) {
			t.Error(message)
		}
	})
}
