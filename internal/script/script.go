// Package script runs tests that are written as text: commands, and the output
// that they must have.
//
// A file is a sequence of blocks. A block is one command a line, a line of four
// dashes, and the expected output up to an empty line or the end of the file:
//
//	# A comment stands between blocks or before a command.
//	campaign a
//	deliver a->b
//	----
//	a->b: ...
//
// With the flag -rewrite the files are given the output that the commands have.
package script

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the actual output into the scripts")

// separator stands between a block's commands and its output.
const separator = "----"

// Command is one line of a script, split at spaces. A word with an equals sign
// that is not its first letter is an option, every other one an argument.
type Command struct {
	Line    int // in the file
	Name    string
	Args    []string
	Options map[string]string
}

// Option returns the option's value, or the default if the command has it not.
func (c *Command) Option(name, otherwise string) string {
	if value, ok := c.Options[name]; ok {
		return value
	}
	return otherwise
}

// Arg returns the argument at that place, or "".
func (c *Command) Arg(i int) string {
	if i >= len(c.Args) {
		return ""
	}
	return c.Args[i]
}

// Run runs each script that the pattern matches as a subtest of its base name.
// start returns what does a script's commands: it gets one and returns its
// output.
func Run(t *testing.T, pattern string, start func(t *testing.T) func(*Command) string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no script matches %s", pattern)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		t.Run(name, func(t *testing.T) { runFile(t, path, start(t)) })
	}
}

func runFile(t *testing.T, path string, do func(*Command) string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, b := range parse(string(content)) {
		out.WriteString(b.source)
		if len(b.commands) == 0 {
			continue
		}
		actual := b.run(do)
		out.WriteString(separator + "\n" + actual + b.gap)
		if actual != b.expected && !*rewrite {
			t.Errorf("%s:%d:\n%s\nexpected:\n%s\nactual:\n%s", path, b.commands[0].Line, b.source, b.expected, actual)
		}
	}
	if *rewrite && out.String() != string(content) {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// block is some commands with the output that they have together.
type block struct {
	source   string // the lines of the commands, with comments
	commands []*Command
	expected string
	gap      string // the empty line behind, if there is one
}

func (b *block) run(do func(*Command) string) string {
	var out strings.Builder
	for _, c := range b.commands {
		text := do(c)
		out.WriteString(text)
		if text != "" && !strings.HasSuffix(text, "\n") {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

func parse(content string) []*block {
	var blocks []*block
	b, inOutput := &block{}, false
	for i, line := range strings.SplitAfter(content, "\n") {
		bare := strings.TrimSpace(line)
		switch {
		case inOutput && bare == "":
			b.gap = line
			blocks, b, inOutput = append(blocks, b), &block{}, false
		case inOutput:
			b.expected += line
		case bare == separator && len(b.commands) > 0:
			inOutput = true
		default:
			b.source += line
			if bare != "" && !strings.HasPrefix(bare, "#") {
				b.commands = append(b.commands, ParseCommand(i+1, bare))
			}
		}
	}
	return append(blocks, b)
}

// ParseCommand reads one line, which has at least one word.
func ParseCommand(line int, text string) *Command {
	words := strings.Fields(text)
	c := &Command{Line: line, Name: words[0], Options: map[string]string{}}
	for _, word := range words[1:] {
		if name, value, ok := strings.Cut(word, "="); ok && name != "" {
			c.Options[name] = value
			continue
		}
		c.Args = append(c.Args, word)
	}
	return c
}
