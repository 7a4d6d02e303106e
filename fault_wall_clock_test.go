package raft_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// A time of package time has two readings: the wall clock's, which whoever keeps the
// machine's time moves as he likes, and that of a clock that only goes on. Now takes
// both; Sub, Before, After, Compare, Equal, Since and Until use the second where both
// times have it, and Add keeps it. Timers, tickers, contexts and the deadlines of
// connections rest on those. All else shows or takes over the wall clock's: what tells
// the date, seconds since 1970, an encoding, and what makes a time of such; or it drops
// the other reading, as Round and Truncate do.
//
// A time that is zero has the wall clock's reading only. It lies two thousand years
// back, so that no step of a clock gets near it.
var (
	monotonicMethods   = []string{"Add", "After", "Before", "Compare", "Equal", "IsZero", "Sub"}
	monotonicFunctions = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Tick", "Until"}
	// timelessFunctions have no time in them.
	timelessFunctions = []string{"ParseDuration"}
	// strangersTimes are names by which other packages give the wall clock's time, or
	// times that were written down by it.
	strangersTimes = []string{"ModTime", "Gettimeofday", "ClockGettime", "SetModTime", "Chtimes"}
)

// wallClock finds in typed files what the wall clock has a part in.
func wallClock(fset *token.FileSet, info *types.Info, files []*ast.File) (found []string) {
	say := func(n ast.Node, format string, args ...any) {
		at := fset.Position(n.Pos())
		found = append(found, fmt.Sprintf("%s:%d: %s", at.Filename, at.Line, fmt.Sprintf(format, args...)))
	}
	ofPackageTime := func(o types.Object) bool { return o != nil && o.Pkg() != nil && o.Pkg().Path() == "time" }
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if slices.Contains(strangersTimes, n.Sel.Name) {
					say(n, "uses %s", n.Sel.Name)
				}
			case *ast.Ident:
				o := info.Uses[n]
				if !ofPackageTime(o) {
					return true
				}
				switch o := o.(type) {
				case *types.Var:
					if !o.IsField() {
						say(n, "uses time.%s", n.Name)
					}
				case *types.Func:
					receiver := o.Signature().Recv()
					switch {
					case receiver == nil && !slices.Contains(slices.Concat(monotonicFunctions, timelessFunctions), n.Name):
						say(n, "calls time.%s", n.Name)
					case receiver != nil && strings.HasSuffix(receiver.Type().String(), "time.Time") && !slices.Contains(monotonicMethods, n.Name):
						say(n, "calls %s of a time", n.Name)
					}
				}
			}
			return true
		})
	}
	return found
}

// timePackages gives the packages whose times the library handles as they are, and empty
// ones in place of all others: what those give back has no type.
type timePackages map[string]*types.Package

func newTimePackages(t *testing.T) timePackages {
	packages, from := make(timePackages), importer.Default()
	for _, name := range []string{"time", "context"} {
		p, err := from.Import(name)
		if err != nil {
			t.Fatal(err)
		}
		packages[name] = p
	}
	return packages
}

// Import is types.Importer's.
func (p timePackages) Import(name string) (*types.Package, error) {
	if p[name] == nil {
		p[name] = types.NewPackage(name, path.Base(name))
		p[name].MarkComplete()
	}
	return p[name], nil
}

// wallClockOf is wallClock of the files of one package.
func wallClockOf(fset *token.FileSet, packages timePackages, files []*ast.File) []string {
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	// What comes of an empty package is an error that says nothing of the file.
	config := types.Config{Importer: packages, Error: func(error) {}}
	_, _ = config.Check(files[0].Name.Name, fset, files, info)
	return wallClock(fset, info, files)
}

// Row 121: no step of the wall clock fires or holds up a timer, as the library reads no
// wall clock: of the times that it takes it uses the reading that only goes on. The
// protocol's rules have no time at all (TestTidy), and a step under a running program
// cannot be had without being the machine's keeper; so this looks at the source.
func TestFault121_NoWallClock(t *testing.T) {
	fset, all := token.NewFileSet(), make(map[string]*ast.File)
	var names []string
	for _, f := range loadTree(t).files {
		if f.isTest() || !f.inLibrary() {
			continue
		}
		syntax, err := parser.ParseFile(fset, f.path, f.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		all[f.path], names = syntax, append(names, f.path)
	}
	packages, seen, looked, found := newTimePackages(t), make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, program := range []build.Context{
		{GOOS: "linux", GOARCH: "amd64"}, {GOOS: "linux", GOARCH: "amd64", BuildTags: []string{"simulation"}},
		{GOOS: "windows", GOARCH: "amd64"}, {GOOS: "wasip1", GOARCH: "wasm"},
	} {
		folders := make(map[string][]string)
		for _, name := range names {
			here, err := program.MatchFile(path.Split(name))
			if err != nil {
				t.Fatal(err)
			}
			if here {
				folders[path.Dir(name)], seen[name] = append(folders[path.Dir(name)], name), true
			}
		}
		for _, files := range folders {
			if key := strings.Join(files, " "); !looked[key] {
				looked[key] = true
				var syntax []*ast.File
				for _, name := range files {
					syntax = append(syntax, all[name])
				}
				for _, message := range wallClockOf(fset, packages, syntax) {
					found[message] = true
				}
			}
		}
	}
	for _, message := range slices.Sorted(maps.Keys(found)) {
		t.Error(message)
	}
	for _, name := range names {
		if !seen[name] {
			t.Error(name, "was not looked at")
		}
	}
}

// TestWallClockBites shows that TestFault121_NoWallClock sees the wall clock where it is.
func TestWallClockBites(t *testing.T) {
	packages := newTimePackages(t)
	for body, want := range map[string]string{
		"_ = time.Now().Unix()":                        "calls Unix of a time",
		"_ = s.heard.UnixNano()":                       "calls UnixNano of a time",
		"_ = s.Hour()":                                 "calls Hour of a time",
		"f := s.heard.UnixMilli; _ = f":                "calls UnixMilli of a time",
		"_ = s.last().Format(time.Kitchen)":            "calls Format of a time",
		"s.heard = s.heard.Round(0)":                   "calls Round of a time",
		"_ = time.Now().Truncate(1)":                   "calls Truncate of a time",
		"_ = time.Now().Sub(time.Unix(1, 0))":          "calls time.Unix",
		"now := time.Date; _ = now":                    "calls time.Date",
		"_, _ = time.Parse(time.RFC3339, `x`)":         "calls time.Parse",
		"_ = time.Local.String()":                      "uses time.Local",
		"_ = info.ModTime()":                           "uses ModTime",
		"by, _ := c.Deadline(); _ = by.Unix()":         "calls Unix of a time",
		"_ = time.Until(s.heard.Add(time.Second)) > 1": "",
		"_ = s.heard.IsZero() || s.last().Before(time.Now()) || time.Since(s.heard).Round(1) > 0":  "",
		"d := time.Duration(1); _ = d.String() + d.Truncate(2).String(); _ = d.Seconds()":          "",
		"<-time.After(time.Second); time.NewTimer(1).Reset(2); _ = []time.Month{time.January}[0:]": "",
	} {
		source := `package p; import "time"; import "os"; import "context"; var info os.FileInfo; var c context.Context; type local struct { time.Time; heard time.Time }
func (l local) last() time.Time { return l.heard }; func f(s local) { ` + body + ` }`
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, "p.go", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := strings.Join(wallClockOf(fset, packages, []*ast.File{syntax}), "; ")
		if cmp.Or(want, "none") != cmp.Or(strings.TrimPrefix(found, "p.go:2: "), "none") {
			t.Errorf("%s: %q, want %q", body, found, want)
		}
	}
}
