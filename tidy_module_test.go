package raft_test

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"strings"
)

const modulePath = "github.com/goraft/raft"

// directDependencies are what the library's go.mod may require, outside its
// standard library. Whatever needs more is a nested module.
var directDependencies = []string{
	"github.com/golang/protobuf",
	"github.com/gorilla/mux",
	"github.com/stretchr/testify",
	"google.golang.org/protobuf",
	"golang.org/x/sys",
}

// outsideWorkspace are the modules that go.work must not tie in, because a
// workspace shares one version of every dependency.
var outsideWorkspace = []string{"bench/peers/*"}

// downward says which packages of this repository each directory may import:
// programs → raft → protobuf, internal/wal, internal/snapshot → internal/vfs. A
// directory that is not listed may import none; "cmd/*" stands for everything
// below cmd.
var downward = []struct {
	dir string
	may []string
}{
	{"internal/vfs", nil},
	{"internal/wal", []string{"internal/vfs"}},
	{"internal/snapshot", []string{"internal/vfs"}},
	{"internal/storage", []string{"internal/wal", "internal/snapshot", "internal/vfs"}}, // tests only
	{"protobuf", nil},
	{".", []string{"protobuf", "internal/wal", "internal/snapshot", "internal/vfs"}},
	{"cmd/*", []string{".", "protobuf", "internal/wal", "internal/vfs", "cmd/*"}},
	{"simulation/*", []string{".", "protobuf", "internal/wal", "internal/vfs", "simulation/*"}},
	{"bench/*", []string{".", "bench/*"}},
	{"metrics/*", []string{".", "metrics/*"}},
	{"examples/*", []string{".", "examples/*"}},
}

// muxFiles are the files of the library where routes are mounted.
var muxFiles = []string{"http_*.go"}

// encodingFiles are the files of the library behind Encode and Decode, besides
// package protobuf.
var encodingFiles = []string{
	"append_entries.go", "request_vote.go", "snapshot.go", "log_entry.go", "codec*.go", "*_codec.go", "message*.go",
}

// importRules are the rules about imports.
var importRules = []*rule{
	{"import direction", "imports run one way: cmd, bench, simulation → raft → protobuf, internal/wal, internal/snapshot → internal/vfs", nil, checkDirection},
	{"dot import", "a name must show where it is from", nil, checkDotImports},
	{"routing", "mux appears only where routes are mounted", (*goFile).inLibrary, checkMux},
	{"protobuf", "protobuf appears only behind Encode and Decode", shippedInLibrary, checkProtobuf},
	{"test helper", "the library does not link test frameworks into the programs that use it", shippedInLibrary, checkTestHelpers},
}

// below says whether dir is what the pattern names: itself, or for "cmd/*" cmd
// and all below it.
func below(dir, pattern string) bool {
	parent, all := strings.CutSuffix(pattern, "/*")
	return dir == parent || all && strings.HasPrefix(dir, parent+"/")
}

func checkDirection(f *goFile) (found []finding) {
	var may []string
	for _, layer := range downward {
		if below(f.dir(), layer.dir) {
			may = layer.may
			break
		}
	}
	for p, spec := range f.imports() {
		if p != modulePath && !strings.HasPrefix(p, modulePath+"/") {
			continue
		}
		target := path.Join(".", strings.TrimPrefix(strings.TrimPrefix(p, modulePath), "/"))
		if f.isTest() && matches(testFolders, target) {
			continue
		}
		ownTest := f.isTest() && target == f.dir()
		if !ownTest && !slices.ContainsFunc(may, func(pattern string) bool { return below(target, pattern) }) {
			found = append(found, f.at(spec, "%s imports %s", f.dir(), p))
		}
	}
	return found
}

func checkDotImports(f *goFile) (found []finding) {
	for p, spec := range f.imports() {
		if spec.Name != nil && spec.Name.Name == "." {
			found = append(found, f.at(spec, "imports %s under no name", p))
		}
	}
	return found
}

// importsAny finds the imports of the listed modules, and of packages in them.
func importsAny(f *goFile, modules ...string) (found []finding) {
	for p, spec := range f.imports() {
		for _, m := range modules {
			if p == m || strings.HasPrefix(p, m+"/") {
				found = append(found, f.at(spec, "imports %s", p))
			}
		}
	}
	return found
}

func checkMux(f *goFile) []finding {
	if f.inRoot() && matches(muxFiles, f.base()) {
		return nil
	}
	return importsAny(f, "github.com/gorilla/mux")
}

func checkProtobuf(f *goFile) []finding {
	if f.dir() == "protobuf" || f.inRoot() && matches(encodingFiles, f.base()) {
		return nil
	}
	return importsAny(f, "github.com/golang/protobuf", "google.golang.org/protobuf")
}

func checkTestHelpers(f *goFile) []finding {
	return importsAny(f, "testing", "net/http/httptest", "github.com/stretchr/testify")
}

// checkModules looks at every go.mod of the tree, by its directory, and go.work.
func checkModules(modules map[string]string, work string) (messages []string) {
	used := directives(work)["use"]
	for _, dir := range slices.Sorted(maps.Keys(modules)) {
		lines := directives(modules[dir])
		if dir == "." {
			messages = append(messages, checkRootModule(lines)...)
		} else {
			messages = append(messages, checkNestedModule(dir, lines)...)
		}
		inside := slices.ContainsFunc(used, func(u string) bool { return path.Clean(u) == dir })
		if outside := matches(outsideWorkspace, dir); inside == outside {
			messages = append(messages, fmt.Sprintf("go.work: use of %s is %t, want %t (a workspace shares one version of every dependency; the programs to compare with stay outside)", dir, inside, !outside))
		}
	}
	return messages
}

func checkRootModule(lines map[string][]string) (messages []string) {
	for _, require := range lines["require"] {
		name, comment, _ := strings.Cut(require, " ")
		if !strings.HasSuffix(comment, "// indirect") && !slices.Contains(directDependencies, name) {
			messages = append(messages, "go.mod: requires "+name+" (every dependency of a library is one of its users; what needs more is a nested module)")
		}
	}
	for _, name := range []string{"replace", "exclude", "tool"} {
		for _, line := range lines[name] {
			messages = append(messages, "go.mod: "+name+" "+line+" (it has no effect on the programs that use the library, or burdens them)")
		}
	}
	return messages
}

// checkNestedModule wants a module that requires the library to build it from
// the tree it lies in.
func checkNestedModule(dir string, lines map[string][]string) []string {
	needs := slices.ContainsFunc(lines["require"], func(r string) bool { return strings.HasPrefix(r, modulePath+" ") })
	want := modulePath + " => " + strings.Repeat("../", 1+strings.Count(dir, "/"))
	has := slices.ContainsFunc(lines["replace"], func(r string) bool { return strings.TrimSuffix(r, "/")+"/" == want })
	if needs && !has {
		return []string{dir + "/go.mod: wants replace " + want + " (a nested module also builds without the workspace)"}
	}
	return nil
}

// directives returns the lines of a go.mod or go.work by their verb, blocks
// opened.
func directives(text string) map[string][]string {
	all := make(map[string][]string)
	block := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "//"):
		case line == ")":
			block = ""
		case block != "":
			all[block] = append(all[block], line)
		case rest == "(":
			block = verb
		default:
			all[verb] = append(all[verb], rest)
		}
	}
	return all
}

// mutexesIn finds the places where a file of package raft makes a lock.
func mutexesIn(f *goFile) (found []finding) {
	exempt := make(map[ast.Node]bool)
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && slices.Contains(exemptMutexTypes, spec.Name.Name) {
			ast.Inspect(spec, func(n ast.Node) bool { exempt[n] = true; return true })
		}
		return true
	})
	for _, use := range f.uses("sync", oneOf("Mutex", "RWMutex")) {
		if !exempt[use] {
			found = append(found, f.at(use, "sync.%s", use.Sel.Name))
		}
	}
	return found
}

// checkMutexes counts the locks of package raft, test_utils.go included.
func checkMutexes(files []*goFile) []string {
	var places []string
	for _, f := range files {
		if !f.inRoot() || !shipped(f) {
			continue
		}
		for _, found := range mutexesIn(f) {
			places = append(places, fmt.Sprintf("%s:%d", f.path, found.line))
		}
	}
	if len(places) <= maxMutexes {
		return nil
	}
	return []string{fmt.Sprintf("%s: %d mutexes, the limit is %d (one state, one goroutine: what is shared is immutable, atomic or in the inbox)",
		strings.Join(places, ", "), len(places), maxMutexes)}
}
