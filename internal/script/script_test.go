package script

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestRun has a script say what its commands were read as.
func TestRun(t *testing.T) {
	Run(t, "testdata/*.txt", func(*testing.T) func(*Command) string {
		return func(c *Command) string {
			if c.Name == "quiet" {
				return ""
			}
			var options []string
			for _, name := range slices.Sorted(maps.Keys(c.Options)) {
				options = append(options, name+"="+c.Option(name, "?"))
			}
			return fmt.Sprintf("%s(%s) %s first=%q missing=%s", c.Name,
				strings.Join(c.Args, ","), strings.Join(options, " "), c.Arg(0), c.Option("missing", "default"))
		}
	})
}

// TestParseKeepsTheSource checks that a rewritten script differs from its
// source in the output only.
func TestParseKeepsTheSource(t *testing.T) {
	for _, content := range []string{
		"", "# nothing\n", "a\n----\n", "a\n----\nx\n\nb\n----\ny\n\n# end\n", "# c\n\na b=c\n# d\ne\n----\nx\ny\n\n\nf\n----\nz",
	} {
		var out strings.Builder
		for _, b := range parse(content) {
			out.WriteString(b.source)
			if len(b.commands) > 0 {
				out.WriteString(separator + "\n" + b.expected + b.gap)
			}
		}
		if out.String() != content {
			t.Errorf("%q became %q", content, out.String())
		}
	}
}
