package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const someProgram = `package main

import "fmt"

type counter struct{ n int }

// add is the first of two.
func (c *counter) add(numbers ...int) int {
	for _, n := range numbers {
		c.n += n
	}
	return c.n
}

func say(what string) { fmt.Println(what) }

func main() {
	c := &counter{}
	say(fmt.Sprint(c.add(1, 2)))
}
`

// weaveInto writes the program and weaves mutants into a copy.
func weaveInto(t *testing.T, patches map[string]string) (tree string, woven map[string]error) {
	t.Helper()
	clean, tree := t.TempDir(), t.TempDir()
	for _, dir := range []string{clean, tree} {
		for name, text := range map[string]string{"main.go": someProgram, "go.mod": "module some\n\ngo 1.26.0\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := &weaver{clean: clean, files: map[string]*wovenFile{}}
	woven = map[string]error{}
	for name, diff := range patches {
		m, err := parseMutant(name+".patch", []byte("Row: 1\nSome bug.\n\n--- a/main.go\n+++ b/main.go\n"+diff))
		if err != nil {
			t.Fatal(err)
		}
		woven[name] = w.add(m)
	}
	if err := w.write(tree); err != nil {
		t.Fatal(err)
	}
	return tree, woven
}

func TestWovenMutantsActOneAtATime(t *testing.T) {
	tree, woven := weaveInto(t, map[string]string{
		"001-twice":  "@@ @@\n-\t\tc.n += n\n+\t\tc.n += 2 * n\n",
		"001-silent": "@@ @@\n-func say(what string) { fmt.Println(what) }\n+func say(what string) { fmt.Print(strings.ToUpper(what), \"!\") }\n@@ @@\n-import \"fmt\"\n+import \"fmt\"\n+import \"strings\"\n",
		"001-last":   "@@ @@\n-\t\tc.n += n\n+\t\tc.n = n\n",
	})
	for name, err := range woven {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	build := exec.Command("go", "build", "-o", "program", ".")
	build.Dir, build.Env = tree, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{"": "3\n", "001-twice": "6\n", "001-silent": "3!", "001-last": "2\n"} {
		program := exec.Command(filepath.Join(tree, "program"))
		program.Env = append(os.Environ(), activeVariable+"="+name)
		if out, err := program.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("with %q in force: %q, %v, want %q", name, out, err, want)
		}
	}
}

func TestMutantsThatStandAlone(t *testing.T) {
	tree, woven := weaveInto(t, map[string]string{
		"001-field":     "@@ @@\n-type counter struct{ n int }\n+type counter struct{ n, m int }\n",
		"001-signature": "@@ @@\n-func say(what string) { fmt.Println(what) }\n+func say(what any) { fmt.Println(what) }\n",
		"001-gone":      "@@ @@\n-func say(what string) { fmt.Println(what) }\n+\n",
	})
	for name, err := range woven {
		if err != errAlone {
			t.Errorf("%s was woven in: %v", name, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(tree, "main.go"))
	if err != nil || strings.Contains(string(text), "mutantInForce") {
		t.Errorf("a mutant that stands alone has left something: %v\n%s", err, text)
	}
}
