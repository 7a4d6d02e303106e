package raft_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme holds the README's example to the one that is compiled and run.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(unixLines(readme), "```go\n")
	shown, _, _ = strings.Cut(shown, "```\n")
	_, run, ok := strings.Cut(unixLines(example), "\n)\n\n")
	run, _, found := strings.Cut(run, "\nfunc check(")
	if !ok || !found || strings.TrimSpace(shown) != strings.TrimSpace(run) {
		t.Errorf("README.md shows\n%s\nexample_test.go has\n%s", shown, run)
	}
}

// TestReadmeLinks looks for the files that the README points to.
func TestReadmeLinks(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	links := strings.Split(string(readme), "](")[1:]
	for _, link := range links {
		target, _, _ := strings.Cut(link, ")")
		if strings.Contains(target, "://") {
			continue
		}
		if _, err := os.Stat(target); err != nil {
			t.Error(err)
		}
	}
	if len(links) == 0 {
		t.Error("no links found")
	}
}

func unixLines(text []byte) string { return strings.ReplaceAll(string(text), "\r\n", "\n") }

// TestDocsNameTests looks for the tests that the pages in docs name.
func TestDocsNameTests(t *testing.T) {
	written := make(map[string]bool)
	for _, f := range loadTree(t).files {
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && f.isTest() {
				written[fn.Name.Name] = true
			}
		}
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`(Test[A-Z][A-Za-z0-9_]*)`")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range name.FindAllStringSubmatch(string(text), -1) {
			if !written[match[1]] {
				t.Errorf("%s names %s, which there is not", page, match[1])
			}
		}
	}
}
