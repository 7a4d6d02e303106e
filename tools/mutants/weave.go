package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// To compile the library and its tests anew for each mutant takes far longer than
// to notice most of them. So all mutants that change nothing but the bodies of
// functions go into one tree: a function has its body as it is and, beside it, one
// copy for each mutant that changes it, and begins with the question which of them
// is in force. The environment says that when a test binary starts.

// activeVariable is the name in the environment of the mutant that is in force.
const activeVariable = "MUTANT_IN_FORCE"

const activeSource = `package %s

import "os"

// mutantInForce is the mutant that this process is to be.
var mutantInForce = os.Getenv("` + activeVariable + `")
`

// errAlone says that a mutant changes more than the bodies of functions, and has to
// be compiled by itself.
var errAlone = errors.New("it changes more than bodies of functions")

// weaver makes the tree of all mutants.
type weaver struct {
	clean string
	files map[string]*wovenFile
}

// wovenFile is a source file with the bodies of all mutants.
type wovenFile struct {
	text    string
	parsed  *ast.File
	set     *token.FileSet
	before  map[int]string  // what is inserted at offsets
	behind  strings.Builder // what is appended
	imports map[string]bool // paths that mutants add
}

// function is a function's place in a file.
type function struct {
	decl *ast.FuncDecl
	text string
}

func parseSource(text string) (*ast.File, *token.FileSet, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, "", text, parser.SkipObjectResolution)
	return parsed, set, err
}

// split returns the functions of a file by name, receiver included, and the text of
// everything else but the imports.
func split(text string, parsed *ast.File, set *token.FileSet) (functions map[string]function, rest string) {
	functions = map[string]function{}
	slice := func(n ast.Node) string { return text[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset] }
	var others strings.Builder
	for _, decl := range parsed.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			name := decl.Name.Name
			if decl.Recv != nil {
				name = slice(decl.Recv.List[0].Type) + "." + name
			}
			from := set.Position(decl.Type.Pos()).Offset // without the comment
			functions[name] = function{decl, text[from:set.Position(decl.End()).Offset]}
		case *ast.GenDecl:
			if decl.Tok != token.IMPORT {
				others.WriteString(slice(decl))
			}
		}
	}
	return functions, others.String()
}

// add weaves a mutant in, or returns errAlone and leaves all as it is.
func (w *weaver) add(m *mutant) error {
	type change struct {
		file    *wovenFile
		name    string
		old     function
		mutated function
	}
	var changes []change
	imports := map[*wovenFile][]string{}
	for _, f := range m.files {
		file, err := w.file(f.name)
		if err != nil {
			return err
		}
		mutated, err := f.applied(w.clean)
		if err != nil {
			return err
		}
		parsed, set, err := parseSource(mutated)
		if err != nil {
			return err
		}
		old, oldRest := split(file.text, file.parsed, file.set)
		changed, rest := split(mutated, parsed, set)
		if oldRest != rest || !slices.Equal(slices.Sorted(maps.Keys(old)), slices.Sorted(maps.Keys(changed))) {
			return errAlone
		}
		for _, spec := range parsed.Imports {
			imports[file] = append(imports[file], spec.Path.Value)
		}
		for _, name := range slices.Sorted(maps.Keys(old)) {
			if old[name].text == changed[name].text {
				continue
			}
			if !sameSignature(old[name], changed[name]) {
				return errAlone
			}
			changes = append(changes, change{file, name, old[name], changed[name]})
		}
	}
	for file, paths := range imports {
		for _, p := range paths {
			if !slices.ContainsFunc(file.parsed.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == p }) {
				file.imports[p] = true
			}
		}
	}
	for _, c := range changes {
		c.file.weave(m, c.old, c.mutated)
	}
	return nil
}

// sameSignature reports whether one function can be called for the other with the
// names of the first one's parameters.
func sameSignature(a, b function) bool {
	if a.decl.Type.TypeParams != nil || a.decl.Body == nil {
		return false
	}
	head := func(f function) string {
		var types []string
		for _, list := range []*ast.FieldList{f.decl.Type.Params, f.decl.Type.Results} {
			if list == nil {
				continue
			}
			for _, field := range list.List {
				for range max(1, len(field.Names)) {
					types = append(types, typeText(field.Type))
				}
			}
			types = append(types, ";")
		}
		return strings.Join(types, ",")
	}
	if head(a) != head(b) {
		return false
	}
	for _, field := range a.decl.Type.Params.List {
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, func(n *ast.Ident) bool { return n.Name == "_" }) {
			return false
		}
	}
	return a.decl.Recv == nil || len(a.decl.Recv.List[0].Names) == 1
}

// typeText is a type as it is compared: not pretty.
func typeText(e ast.Expr) string {
	var b strings.Builder
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			b.WriteString(n.Name)
		case nil:
			b.WriteString(")")
		default:
			fmt.Fprintf(&b, "(%T", n)
		}
		return true
	})
	return b.String()
}

// weave gives a function the body that a mutant has for it.
func (f *wovenFile) weave(m *mutant, old, mutated function) {
	name := old.decl.Name.Name + "_" + strings.ReplaceAll(m.name, "-", "_")
	call := name
	if old.decl.Recv != nil {
		call = old.decl.Recv.List[0].Names[0].Name + "." + name
	}
	var args []string
	for _, field := range old.decl.Type.Params.List {
		_, variadic := field.Type.(*ast.Ellipsis)
		for _, n := range field.Names {
			if variadic {
				args = append(args, n.Name+"...")
			} else {
				args = append(args, n.Name)
			}
		}
	}
	call += "(" + strings.Join(args, ", ") + ")"
	if old.decl.Type.Results != nil {
		call = "return " + call
	} else {
		call += "; return"
	}
	at := f.set.Position(old.decl.Body.Lbrace).Offset + 1
	f.before[at] += fmt.Sprintf("\nif mutantInForce == %q { %s }\n", m.name, call)
	place := strings.Index(mutated.text, mutated.decl.Name.Name+"(")
	f.behind.WriteString("\n\n" + mutated.text[:place] + name + mutated.text[place+len(mutated.decl.Name.Name):] + "\n")
}

func (w *weaver) file(name string) (*wovenFile, error) {
	if f := w.files[name]; f != nil {
		return f, nil
	}
	text, err := os.ReadFile(filepath.Join(w.clean, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	f := &wovenFile{text: string(text), before: map[int]string{}, imports: map[string]bool{}}
	if f.parsed, f.set, err = parseSource(f.text); err != nil {
		return nil, err
	}
	w.files[name] = f
	return f, nil
}

// write puts the woven files into a copy of the tree.
func (w *weaver) write(tree string) error {
	packages := map[string]string{}
	for name, f := range w.files {
		packages[path.Dir(name)] = f.parsed.Name.Name
		if err := os.WriteFile(filepath.Join(tree, filepath.FromSlash(name)), []byte(f.woven()), 0o644); err != nil {
			return err
		}
	}
	for dir, name := range packages {
		active := filepath.Join(tree, filepath.FromSlash(dir), "mutant_in_force.go")
		if err := os.WriteFile(active, fmt.Appendf(nil, activeSource, name), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// woven is the text with all that was woven in.
func (f *wovenFile) woven() string {
	var b strings.Builder
	from := f.set.Position(f.parsed.Name.End()).Offset
	b.WriteString(f.text[:from] + "\n")
	for _, p := range slices.Sorted(maps.Keys(f.imports)) {
		b.WriteString("\nimport " + p + "\n")
	}
	for _, at := range slices.Sorted(maps.Keys(f.before)) {
		b.WriteString(f.text[from:at] + f.before[at])
		from = at
	}
	b.WriteString(f.text[from:] + f.behind.String())
	return b.String()
}
