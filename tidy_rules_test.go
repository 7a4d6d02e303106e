package raft_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFileLines     = 600
	maxFunctionLines = 70
	maxMutexes       = 4
)

// ruleFiles are the protocol: plain values, observation in, answer out.
var ruleFiles = []string{
	"replica.go", "election.go", "leadership.go", "progress.go", "configuration.go", "history.go", "intents.go",
}

// ruleImports are the packages that the rule files may import.
var ruleImports = []string{"cmp", "errors", "iter", "maps", "slices"}

// goroutineFile is the one file of the library that starts goroutines.
const goroutineFile = "tasks.go"

// interruptFiles are the files of package raft that may use AfterFunc of packages
// time and context. The function that it starts must only put into the inbox or
// close a connection: Stop does not wait for it.
var interruptFiles = []string{"leader.go", "link.go", "http_*.go"}

// channelFiles are the files of package raft that may use channels and select:
// the helper that Stop waits on, the loops, where callers meet the loop, and the
// edges.
var channelFiles = []string{
	"tasks.go",
	"inbox.go", "snapshot_take.go", "snapshot_send.go", "event_loop.go", "follower.go", "candidate.go", "leader.go", "snapshotting.go", "transfer.go", "membership.go",
	"peer.go", "link.go", "log_writer.go", "applier.go",
	"lifecycle.go", "run.go", "proposal.go", "propose.go", "receive.go", "read.go", "reads.go", "applier_reads.go", "leading.go",
	"transporter.go", "http_*.go", "event_dispatcher.go", "test_utils.go", "memory_*.go",
}

// panicFiles are the files of the library that may panic, as goraft did.
var panicFiles = []string{
	"command.go", // RegisterCommand: nil, or registered before
	"server.go",  // NewServer: nil transporter
}

// sleepFiles are the files of the library that may call time.Sleep.
var sleepFiles = []string{}

// testFolders are the folders of the library that only tests import.
var testFolders = []string{"internal/script"}

// exemptMutexTypes are types whose lock belongs to goraft's public API.
var exemptMutexTypes = []string{"Peer"}

// osNames are the names of package os that do not reach the file system; whatever
// else it has, or will have, does.
var osNames = []string{"O_*", "Err*", "Is*", "FileInfo", "FileMode", "Mode*", "PathError", "Getpid", "Stderr", "Stdout"}

// fileFunctions are functions of other packages that reach the file system.
var fileFunctions = map[string][]string{
	"path/filepath": {"EvalSymlinks", "Glob", "Walk", "WalkDir"},
	"net/http":      {"Dir", "NewFileTransport", "ServeFile"},
	"crypto/tls":    {"LoadX509KeyPair"},
}

// filePackages are packages that reach the file system, or whatever else they like.
var filePackages = []string{
	"C", "archive/zip", "go/parser", "golang.org/x/sys", "html/template", "io/ioutil", "os/exec", "plugin", "syscall", "text/template",
}

// rules are the rules that look at one file at a time; imports have their own
// file, tidy_module_test.go.
var rules = slices.Concat(importRules, []*rule{
	{"file length", "a file is one role, to be read in one sitting", notGenerated, checkFileLength},
	{"function length", "a function is one thought; name its parts", notGenerated, checkFunctionLength},
	{"rule purity", "the rules are values: the loops do the waiting, the asking and the logging", isRuleFile, checkRulePurity},
	{"doc comment", "an exported name is a promise to users; say what it is", shipped, checkDocs},
	{"goroutine", "Stop waits for every goroutine, so all are started in " + goroutineFile, shippedInLibrary, checkGoroutines},
	{"channel", "only loops and edges wait; elsewhere who waits for whom cannot be seen", mayNotWait, checkChannels},
	{"file system", "internal/vfs is the one door to the disk, so that tests can make it fail", beyondVFS, checkFileSystem},
	{"sleep", "a test that sleeps is slow or flaky; use testing/synctest or wait for the event", maySleepNever, checkSleep},
	{"open end", "what is not done is an issue, not a comment", notGenerated, checkOpenEnds},
	{"panic", "a broken invariant stops the server with Err(); a library never ends the program", shippedInLibrary, checkPanics},
})

func notGenerated(f *goFile) bool { return !f.generated() }
func shipped(f *goFile) bool      { return !f.isTest() && !f.generated() }
func shippedInLibrary(f *goFile) bool {
	return shipped(f) && f.inLibrary() && !matches(testFolders, f.dir())
}
func isRuleFile(f *goFile) bool    { return f.inRoot() && slices.Contains(ruleFiles, f.base()) }
func beyondVFS(f *goFile) bool     { return shippedInLibrary(f) && f.dir() != "internal/vfs" }
func maySleepNever(f *goFile) bool { return f.inLibrary() && !matches(sleepFiles, f.path) }

func mayNotWait(f *goFile) bool {
	return shipped(f) && f.inRoot() && !matches(channelFiles, f.base())
}

func checkFileLength(f *goFile) []finding {
	lines := strings.Count(f.text, "\n")
	if lines <= maxFileLines {
		return nil
	}
	return []finding{{lines, fmt.Sprintf("the file has %d lines, the limit is %d", lines, maxFileLines)}}
}

func checkFunctionLength(f *goFile) (found []finding) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		name := "a function literal"
		switch fn := n.(type) {
		case *ast.FuncDecl:
			name = fn.Name.Name
		case *ast.FuncLit:
		default:
			return true
		}
		lines := f.line(n.End()) - f.line(n.Pos()) + 1
		if lines > maxFunctionLines {
			found = append(found, f.at(n, "%s has %d lines, the limit is %d", name, lines, maxFunctionLines))
		}
		return true
	})
	return found
}

func checkRulePurity(f *goFile) (found []finding) {
	for p, spec := range f.imports() {
		if !slices.Contains(ruleImports, p) {
			found = append(found, f.at(spec, "imports %s, may import only %s", p, strings.Join(ruleImports, ", ")))
		}
	}
	found = append(found, channelUses(f)...)
	banned := []string{"time", "sync", "atomic", "log", "slog", "rand", "os", "context"}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, f.at(n, "starts a goroutine"))
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Obj == nil && slices.Contains(banned, x.Name) {
				found = append(found, f.at(n, "uses %s.%s", x.Name, n.Sel.Name))
			}
		case *ast.CallExpr:
			if x, ok := n.Fun.(*ast.Ident); ok && x.Obj == nil && (x.Name == "print" || x.Name == "println") {
				found = append(found, f.at(n, "prints"))
			}
		}
		return true
	})
	return found
}

// channelUses finds channel types, operations on channels and selects. It has
// no types, so a range over a channel is found by the channel's declaration.
func channelUses(f *goFile) (found []finding) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ChanType:
			found = append(found, f.at(n, "uses a channel type"))
		case *ast.SendStmt:
			found = append(found, f.at(n, "sends on a channel"))
		case *ast.SelectStmt:
			found = append(found, f.at(n, "uses select"))
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				found = append(found, f.at(n, "receives from a channel"))
			}
		}
		return true
	})
	return found
}

func checkChannels(f *goFile) []finding { return channelUses(f) }

func checkGoroutines(f *goFile) (found []finding) {
	if f.path == goroutineFile {
		return nil
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if n, ok := n.(*ast.GoStmt); ok {
			found = append(found, f.at(n, "starts a goroutine"))
		}
		return true
	})
	starters := map[string][]string{
		"sync":    {"WaitGroup"}, // its method Go starts one
		"time":    {"AfterFunc"},
		"context": {"AfterFunc"},
	}
	if f.inRoot() && matches(interruptFiles, f.base()) {
		delete(starters, "context")
		delete(starters, "time")
	}
	for p, names := range starters {
		for _, use := range f.uses(p, oneOf(names...)) {
			found = append(found, f.at(use, "%s.%s starts goroutines", path.Base(p), use.Sel.Name))
		}
	}
	return found
}

func checkFileSystem(f *goFile) (found []finding) {
	found = importsAny(f, filePackages...)
	uses := f.uses("os", func(name string) bool { return !matches(osNames, name) })
	for p, names := range fileFunctions {
		uses = append(uses, f.uses(p, oneOf(names...))...)
	}
	for _, use := range uses {
		found = append(found, f.at(use, "calls %s.%s", use.X.(*ast.Ident).Name, use.Sel.Name))
	}
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:linkname ") {
				found = append(found, f.at(c, "says %s", c.Text))
			}
		}
	}
	return found
}

func checkSleep(f *goFile) (found []finding) {
	for _, use := range f.uses("time", oneOf("Sleep")) {
		found = append(found, f.at(use, "calls time.Sleep"))
	}
	return found
}

// openEnd is written so that it does not find itself.
var openEnd = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

func checkOpenEnds(f *goFile) (found []finding) {
	for i, line := range strings.Split(f.text, "\n") {
		if mark := openEnd.FindString(line); mark != "" {
			found = append(found, finding{i + 1, "says " + mark})
		}
	}
	return found
}

func checkPanics(f *goFile) (found []finding) {
	if f.inRoot() && slices.Contains(panicFiles, f.base()) {
		return nil
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if x, ok := call.Fun.(*ast.Ident); ok && x.Name == "panic" && x.Obj == nil {
				found = append(found, f.at(call, "panics"))
			}
		}
		return true
	})
	enders := func(name string) bool { return strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic") }
	for _, use := range slices.Concat(f.uses("os", oneOf("Exit")), f.uses("log", enders)) {
		found = append(found, f.at(use, "ends the program by %s", use.Sel.Name))
	}
	return found
}

// checkDocs asks for a comment on every exported declaration: types, functions,
// methods of exported types, constants and variables. A comment on a group
// covers its members; a struct's covers its fields, an interface's its methods.
func checkDocs(f *goFile) (found []finding) {
	for _, decl := range f.syntax.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			receiver := receiverName(decl)
			exported := decl.Name.IsExported() && (receiver == "" || ast.IsExported(receiver))
			if exported && decl.Doc.Text() == "" {
				found = append(found, f.at(decl, "%s has no doc comment", decl.Name.Name))
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				for _, name := range undocumented(decl, spec) {
					found = append(found, f.at(spec, "%s has no doc comment", name))
				}
			}
		}
	}
	return found
}

// undocumented returns the exported names of a declaration that no comment covers.
func undocumented(decl *ast.GenDecl, spec ast.Spec) (names []string) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		grouped := decl.Lparen.IsValid()
		if spec.Name.IsExported() && spec.Doc.Text() == "" && (grouped || decl.Doc.Text() == "") {
			names = append(names, spec.Name.Name)
		}
	case *ast.ValueSpec:
		if decl.Doc.Text() != "" || spec.Doc.Text() != "" || spec.Comment.Text() != "" {
			return nil
		}
		for _, name := range spec.Names {
			if name.IsExported() {
				names = append(names, name.Name)
			}
		}
	}
	return names
}

// receiverName is the name of the type that a method belongs to, or "".
func receiverName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return ""
	}
	return typeName(fn.Recv.List[0].Type)
}

// typeName strips pointers and type parameters off a receiver's type.
func typeName(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}
