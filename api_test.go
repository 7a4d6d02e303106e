package raft_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite api.txt from the source")

const apiFile = "api.txt"

// TestAPI compares the exported declarations of package raft with api.txt, one
// line each, so that no change of the API is an accident. A change that is meant
// is written by: go test -run TestAPI -update .
func TestAPI(t *testing.T) {
	got := strings.Join(exportedAPI(t), "\n") + "\n"
	if *update {
		if err := os.WriteFile(apiFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(apiFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	have := strings.Split(got, "\n")
	for _, line := range want {
		if !slices.Contains(have, line) {
			t.Errorf("no longer: %s", line)
		}
	}
	for _, line := range have {
		if !slices.Contains(want, line) {
			t.Errorf("new: %s", line)
		}
	}
	if t.Failed() {
		t.Log("if the change is meant: go test -run TestAPI -update . and say it in CHANGELOG.md")
	}
}

// exportedAPI describes every exported declaration of package raft, for every
// operating system, sorted and each once. What only a build for simulations has
// is no promise to anybody.
func exportedAPI(t *testing.T) []string {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseGoFile(name, ".", string(text))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "//go:build simulation\n") {
			lines = append(lines, declarations(f.syntax)...)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// declarations describes the exported declarations of one file.
func declarations(file *ast.File) (lines []string) {
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			lines = append(lines, describeFunction(decl)...)
		case *ast.GenDecl:
			var group constGroup
			for i, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					lines = append(lines, describeType(spec)...)
				case *ast.ValueSpec:
					lines = append(lines, group.describe(decl.Tok, i, spec)...)
				}
			}
		}
	}
	return lines
}

// describeFunction leaves out the names of parameters: they are no promise.
func describeFunction(fn *ast.FuncDecl) []string {
	receiver := receiverName(fn)
	if !fn.Name.IsExported() || receiver != "" && !ast.IsExported(receiver) {
		return nil
	}
	line := "func "
	if receiver != "" {
		line = "method (" + source(fn.Recv.List[0].Type) + ") "
	}
	return []string{line + fn.Name.Name + signature(fn.Type)}
}

func describeType(spec *ast.TypeSpec) (lines []string) {
	name := spec.Name.Name
	if !spec.Name.IsExported() {
		return nil
	}
	line := "type " + name
	if spec.TypeParams != nil {
		line += typeParameters(spec.TypeParams)
	}
	if spec.Assign.IsValid() {
		line += " ="
	}
	switch t := spec.Type.(type) {
	case *ast.StructType:
		hidden := 0
		for _, field := range t.Fields.List {
			described := describeField(name, field)
			lines = append(lines, described...)
			hidden += max(len(field.Names), 1) - len(described)
		}
		line += " struct"
		if hidden > 0 {
			line += " with unexported fields"
		}
	case *ast.InterfaceType:
		line += " interface"
		for _, member := range t.Methods.List {
			lines = append(lines, describeMember(name, member)...)
		}
	default:
		line += " " + source(t)
	}
	return append(lines, line)
}

func describeField(owner string, field *ast.Field) (lines []string) {
	tag := ""
	if field.Tag != nil {
		tag = " " + field.Tag.Value
	}
	if len(field.Names) == 0 {
		if embedded := source(field.Type); ast.IsExported(embedded[strings.LastIndexAny(embedded, ".*")+1:]) {
			lines = append(lines, "field "+owner+" embeds "+embedded+tag)
		}
	}
	for _, name := range field.Names {
		if name.IsExported() {
			lines = append(lines, "field "+owner+"."+name.Name+" "+source(field.Type)+tag)
		}
	}
	return lines
}

// describeMember also names unexported methods: with one, no other package can
// implement the interface.
func describeMember(owner string, member *ast.Field) (lines []string) {
	if len(member.Names) == 0 {
		return []string{"interface " + owner + " embeds " + source(member.Type)}
	}
	for _, name := range member.Names {
		lines = append(lines, "interface "+owner+"."+name.Name+signature(member.Type.(*ast.FuncType)))
	}
	return lines
}

// constGroup remembers the type and values that later constants of a group repeat.
type constGroup struct{ last *ast.ValueSpec }

func (g *constGroup) describe(kind token.Token, position int, spec *ast.ValueSpec) (lines []string) {
	stated := spec
	repeated := ""
	if kind == token.CONST && len(spec.Values) == 0 && spec.Type == nil && g.last != nil {
		stated = g.last
	} else {
		g.last = spec
	}
	for i, name := range spec.Names {
		if !name.IsExported() {
			continue
		}
		line := kind.String() + " " + name.Name
		if stated.Type != nil {
			line += " " + source(stated.Type)
		}
		if i < len(stated.Values) && (kind == token.CONST || stated.Type == nil) {
			value := source(stated.Values[i])
			if strings.Contains(value, "iota") {
				repeated = fmt.Sprintf(" (iota %d)", position)
			}
			line += " = " + value + repeated
		}
		lines = append(lines, line)
	}
	return lines
}

func signature(fn *ast.FuncType) string {
	return strings.TrimPrefix(source(fn), "func")
}

// source prints a node on one line, functions without the names of parameters.
func source(n ast.Node) string {
	ast.Inspect(n, func(n ast.Node) bool {
		if fn, ok := n.(*ast.FuncType); ok {
			fn.Params = withoutNames(fn.Params)
			fn.Results = withoutNames(fn.Results)
		}
		return true
	})
	return oneLine(n)
}

func oneLine(n ast.Node) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, token.NewFileSet(), n); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// typeParameters prints the parameters of a generic type.
func typeParameters(list *ast.FieldList) string {
	fn := oneLine(&ast.FuncType{TypeParams: list, Params: &ast.FieldList{}})
	return strings.TrimSuffix(strings.TrimPrefix(fn, "func"), "()")
}

// withoutNames turns (a, b int) into (int, int).
func withoutNames(list *ast.FieldList) *ast.FieldList {
	if list == nil {
		return nil
	}
	bare := &ast.FieldList{}
	for _, field := range list.List {
		for range max(len(field.Names), 1) {
			bare.List = append(bare.List, &ast.Field{Type: field.Type})
		}
	}
	return bare
}

// TestAPILines shows how declarations are described.
func TestAPILines(t *testing.T) {
	f, err := parseGoFile("x.go", ".", `package raft
import "io"
const (
	A Level = iota
	B
	c
)
const State = "follower"
var ErrX, errY = errors.New("x"), errors.New("y")
var Clock func(now time.Time) bool = nil
func Do(ctx Context, a, b int, more ...string) (result any, err error) { return nil, nil }
func do() {}
func (s *Server[T]) Stop(f func(name string) (n int)) {}
func (s *server) Stop() {}
type Server[T any, K comparable] struct {
	Name, Path string `+"`json:\"name\"`"+`
	*sync.RWMutex
	hidden int
}
type Open struct{ io.Reader }
type Command interface { Encode(w io.Writer) error; secret(); io.Closer }
type Level int
type Old = Server[int, int]
type local int
`)
	if err != nil {
		t.Fatal(err)
	}
	got := declarations(f.syntax)
	want := []string{
		`const A Level = iota (iota 0)`,
		`const B Level = iota (iota 1)`,
		`const State = "follower"`,
		`var ErrX = errors.New("x")`,
		`var Clock func(time.Time) bool`,
		`func Do(Context, int, int, ...string) (any, error)`,
		`method (*Server[T]) Stop(func(string) int)`,
		"field Server.Name string `json:\"name\"`",
		"field Server.Path string `json:\"name\"`",
		`field Server embeds *sync.RWMutex`,
		`type Server[T any, K comparable] struct with unexported fields`,
		`field Open embeds io.Reader`,
		`type Open struct`,
		`interface Command.Encode(io.Writer) error`,
		`interface Command.secret()`,
		`interface Command embeds io.Closer`,
		`type Command interface`,
		`type Level int`,
		`type Old = Server[int, int]`,
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("from line %d on got\n%s\nwant\n%s", i, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
