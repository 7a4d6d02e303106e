package raft_test

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// faultRows is how many rows the table of faults must have; those of security, which
// follow, are there as far as there are tests.
const faultRows = 138

// faultLevels are the levels at which the table says a row is shown. A row that is not
// shown is pending or impossible, and says of what or why in place of tests.
var faultLevels = []string{"rules", "messages", "loop", "storage", "cluster", "http", "simulation", "processes", "house"}

// knownTests says which tests there are: the names of the functions of all modules, and
// of the cases of TestScripts.
type knownTests map[string]bool

// faultsOf gives the rows that a test is named after.
func faultsOf(test string) (rows []int) {
	if m := regexp.MustCompile(`^TestFault(\d{3}(?:_\d{3})*)_`).FindStringSubmatch(test); m != nil {
		for _, number := range strings.Split(m[1], "_") {
			n, _ := strconv.Atoi(number)
			rows = append(rows, n)
		}
	}
	return rows
}

// faultTable gives the lines of the table of faults, in the section of that name.
func faultTable(document string) (lines []string) {
	_, section, _ := strings.Cut(document, "\n## Faults\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, table, _ := strings.Cut(section, "\n| row | what holds | level | tests |\n| --- | --- | --- | --- |\n")
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "|") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// faultRow is one line of the table.
type faultRow struct {
	number            int
	what, level, last string
}

func parseFaultRow(line string) (row faultRow, err error) {
	cells := strings.Split(strings.Trim(line, "|"), "|")
	if len(cells) != 4 {
		return row, fmt.Errorf("%d cells: %s", len(cells), line)
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	row = faultRow{what: cells[1], level: cells[2], last: cells[3]}
	if row.number, err = strconv.Atoi(cells[0]); err != nil {
		return row, fmt.Errorf("no number: %s", line)
	}
	return row, nil
}

var quotedName = regexp.MustCompile("^`([^`]+)`$")

// check gives what is wrong with a row by itself, and the tests that it lists.
func (r *faultRow) check(tests knownTests) (listed, wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if r.what == "" {
		say("it does not say what holds")
	}
	switch r.level {
	case "pending", "impossible":
		if r.last == "" {
			say("%s, and it does not say of what or why", r.level)
		}
		if strings.Contains(r.last, "`Test") {
			say("%s, and it has tests", r.level)
		}
		return nil, wrong
	}
	for _, level := range strings.Split(r.level, ", ") {
		if !slices.Contains(faultLevels, level) {
			say("level %q is not known", level)
		}
	}
	for _, cell := range strings.Split(r.last, ", ") {
		name := quotedName.FindStringSubmatch(cell)
		switch {
		case name == nil:
			say("%q is no name of a test", cell)
			continue
		case !tests[name[1]]:
			say("there is no %s", name[1])
		case slices.Contains(listed, name[1]):
			say("%s is listed twice", name[1])
		case len(faultsOf(name[1])) > 0 && !slices.Contains(faultsOf(name[1]), r.number):
			say("%s is another row's", name[1])
		}
		listed = append(listed, name[1])
	}
	return listed, wrong
}

// checkFaultTable gives what is wrong with a table that must have the rows 1 to n.
func checkFaultTable(lines []string, n int, tests knownTests) (wrong []string) {
	rows := make(map[int][]string)
	last := 0
	for _, line := range lines {
		row, err := parseFaultRow(line)
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		listed, bad := row.check(tests)
		for _, what := range bad {
			wrong = append(wrong, fmt.Sprintf("row %d: %s", row.number, what))
		}
		switch _, again := rows[row.number]; {
		case again:
			wrong = append(wrong, fmt.Sprintf("row %d: listed twice", row.number))
		case row.number < last:
			wrong = append(wrong, fmt.Sprintf("row %d: it is behind row %d", row.number, last))
		}
		rows[row.number], last = listed, row.number
	}
	for i := 1; i <= n; i++ {
		if _, ok := rows[i]; !ok {
			wrong = append(wrong, fmt.Sprintf("row %d: absent", i))
		}
	}
	for _, test := range slices.Sorted(maps.Keys(tests)) {
		for _, number := range faultsOf(test) {
			if listed, ok := rows[number]; !ok || !slices.Contains(listed, test) {
				wrong = append(wrong, fmt.Sprintf("row %d: %s is not listed", number, test))
			}
		}
	}
	return wrong
}

// TestFaultTable holds that docs/testing.md tells of every fault of the catalogue, and
// of every test that is named after one.
func TestFaultTable(t *testing.T) {
	document, err := os.ReadFile("docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := make(knownTests)
	for _, f := range loadTree(t).files {
		if !f.isTest() {
			continue
		}
		for _, decl := range f.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			tests[fn.Name.Name] = true
			if strings.HasPrefix(fn.Name.Name, "TestFault0") || strings.HasPrefix(fn.Name.Name, "TestFault1") {
				if len(faultsOf(fn.Name.Name)) == 0 {
					t.Errorf("%s:%d: %s names no row in three digits", f.path, f.line(fn.Pos()), fn.Name.Name)
				}
			}
		}
	}
	scripts, err := os.ReadDir("testdata/rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		tests["TestScripts/"+strings.TrimSuffix(s.Name(), ".txt")] = true
	}
	for _, wrong := range checkFaultTable(faultTable(string(document)), faultRows, tests) {
		t.Error(wrong)
	}
}

// TestFaultTableBites shows what the check of the table finds.
func TestFaultTableBites(t *testing.T) {
	tests := knownTests{"TestFault001_A": true, "TestFault001_B": true, "TestFault002_003_C": true, "TestModel": true}
	good := []string{
		"| 1 | x | rules, http | `TestFault001_A`, `TestFault001_B`, `TestModel` |",
		"| 2 | x | house | `TestFault002_003_C` |",
		"| 3 | x | storage | `TestFault002_003_C` |",
		"| 4 | x | pending | leases |",
		"| 5 | x | impossible | nobody asks |",
	}
	document := "# T\n\n## Faults\n\nWords.\n\n| level | what |\n| --- | --- |\n\n| row | what holds | level | tests |\n| --- | --- | --- | --- |\n" +
		strings.Join(good, "\n") + "\n\n## More\n\n| 6 | y |\n"
	if got := faultTable(document); !slices.Equal(got, good) {
		t.Fatalf("%q", got)
	}
	if wrong := checkFaultTable(good, 5, tests); len(wrong) > 0 {
		t.Fatalf("%q", wrong)
	}
	for _, c := range []struct {
		row  int // which is replaced, or 0: the table must have one more
		line string
		want string
	}{
		{0, "", "row 6: absent"},
		{1, "| 1 | x | rules | `TestFault001_A` |", "row 1: TestFault001_B is not listed"},
		{1, "| 1 |  | rules | `TestFault001_A`, `TestFault001_B` |", "row 1: it does not say what holds"},
		{1, "| 1 | x | rules | `TestFault001_A`, `TestFault001_B`, `TestGone` |", "row 1: there is no TestGone"},
		{1, "| 1 | x | rules | `TestFault001_A`, `TestFault001_B`, `TestFault001_B` |", "row 1: TestFault001_B is listed twice"},
		{1, "| 1 | x | rules | `TestFault001_A`, `TestFault001_B`, `TestFault002_003_C` |", "row 1: TestFault002_003_C is another row's"},
		{1, "| 1 | x | guesses | `TestFault001_A`, `TestFault001_B` |", `row 1: level "guesses" is not known`},
		{1, "| 1 | x | pending | `TestFault001_A` | y |", "5 cells"},
		{2, "| 2 | x | pending | leases |", "row 2: TestFault002_003_C is not listed"},
		{3, "| 3 | x | pending | `TestFault002_003_C` |", "row 3: pending, and it has tests"},
		{4, "| 4 | x | pending |  |", "row 4: pending, and it does not say of what or why"},
		{4, "| 4 | x | rules |  |", `row 4: "" is no name of a test`},
		{4, "| 3 | x | pending | leases |", "row 3: listed twice"},
		{5, "| 0 | x | impossible | nobody asks |", "row 0: it is behind row 4"},
		{5, "| five | x | impossible | nobody asks |", "no number"},
	} {
		lines, n := slices.Clone(good), len(good)
		if c.row == 0 {
			n++
		} else {
			lines[c.row-1] = c.line
		}
		wrong := checkFaultTable(lines, n, tests)
		if !slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, c.want) }) {
			t.Errorf("%s: %q, want %s", c.line, wrong, c.want)
		}
	}
}
