package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// TestPatchesApply sees that no change of the library has left a mutant behind.
// Whether they compile takes the compiler: see -check.
func TestPatchesApply(t *testing.T) {
	all, err := loadMutants(filepath.Join(root, "mutants"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Errorf("%d mutants, want at least 60", len(all))
	}
	for _, m := range all {
		dir := t.TempDir()
		for _, f := range m.files {
			if strings.HasSuffix(f.name, "_test.go") {
				t.Errorf("%s changes a test", m.name)
			}
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f.name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := copyFile(filepath.Join(root, f.name), filepath.Join(dir, f.name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.apply(dir); err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		for _, f := range m.files {
			before, err1 := os.ReadFile(filepath.Join(root, f.name))
			after, err2 := os.ReadFile(filepath.Join(dir, f.name))
			if err1 != nil || err2 != nil || string(before) == string(after) {
				t.Errorf("%s leaves %s as it is: %v, %v", m.name, f.name, err1, err2)
			}
		}
	}
}

const somePatch = `Row: 29
Catches: TestFault029_A internal/wal:TestB
What a late append does.

diff --git a/replica.go b/replica.go
--- a/replica.go
+++ b/replica.go
@@ -10,3 +10,3 @@ func take()
 	one
-	two
+	three

--- a/internal/wal/open.go
+++ b/internal/wal/open.go
@@ -1,2 +1,1 @@
 	four
-	five
`

func TestParseMutant(t *testing.T) {
	m, err := parseMutant("029-late.patch", []byte(somePatch))
	if err != nil {
		t.Fatal(err)
	}
	if m.row != "29" || m.what != "What a late append does." {
		t.Errorf("row %q, %q", m.row, m.what)
	}
	if want := []hint{{"", "TestFault029_A"}, {"internal/wal", "TestB"}}; !slices.Equal(m.catches, want) {
		t.Errorf("hints %v, want %v", m.catches, want)
	}
	if want := []string{".", "internal/wal"}; !slices.Equal(m.dirs(), want) {
		t.Errorf("directories %v, want %v", m.dirs(), want)
	}
	if h := m.files[0].hunks[0]; !slices.Equal(h.old, []string{"\tone", "\ttwo", ""}) || !slices.Equal(h.new, []string{"\tone", "\tthree", ""}) {
		t.Errorf("hunk %q", h)
	}
	for name, text := range map[string]string{
		"029-late.patch":  "What it does.\n\n--- a/x\n",          // no row
		"030-late.patch":  somePatch,                             // another row
		"029-empty.patch": "Row: 29\nWhat it does.\n",            // no diff
		"029-junk.patch":  "Row: 29\nIt.\n\n--- a/x\njunk\n@@ @", // no hunk
	} {
		if _, err := parseMutant(name, []byte(text)); err == nil {
			t.Errorf("%s is taken: %q", name, text)
		}
	}
}

func TestHunkFitsOnce(t *testing.T) {
	h := hunk{old: []string{"b", "c"}, new: []string{"b", "x", "y"}}
	got, err := h.replace([]string{"a", "b", "c", "b"})
	if want := []string{"a", "b", "x", "y", "b"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if _, err := h.replace([]string{"b", "c", "b", "c"}); err == nil {
		t.Error("a hunk that fits twice was applied")
	}
	if _, err := h.replace([]string{"b", "d"}); err == nil {
		t.Error("a hunk that fits nowhere was applied")
	}
}

func TestRotationReachesAll(t *testing.T) {
	var all []*mutant
	for range 23 {
		all = append(all, new(mutant))
	}
	seen := map[*mutant]int{}
	for turn := range 3 {
		chosen := choose(all, &config{n: 10, rotate: 100 + turn})
		if len(chosen) > 10 {
			t.Errorf("turn %d has %d", turn, len(chosen))
		}
		for _, m := range chosen {
			seen[m]++
		}
	}
	if len(seen) != len(all) {
		t.Errorf("three turns of ten reach %d of %d", len(seen), len(all))
	}
}

func TestAffectedPackages(t *testing.T) {
	p := packages{".": {"internal/vfs", "internal/wal"}, "internal/wal": {"internal/vfs"}, "internal/vfs": nil, "protobuf": nil}
	for dir, want := range map[string][]string{
		"internal/vfs": {"internal/vfs", ".", "internal/wal"},
		"internal/wal": {"internal/wal", "."},
		".":            {"."},
	} {
		if got := p.affected([]string{dir}); !slices.Equal(got, want) {
			t.Errorf("%s reaches %v, want %v", dir, got, want)
		}
	}
}

func TestScore(t *testing.T) {
	all := []verdict{
		{Mutant: "a", Verdict: caught, Stage: "suite", Seconds: 4}, {Mutant: "b", Verdict: hung, Stage: "row", Seconds: 90},
		{Mutant: "c", Verdict: caught, Stage: "row", Seconds: 8}, {Mutant: "d", Verdict: missed, Seconds: 200},
	}
	want := "4 mutants: 3 caught, 1 missed (1 caught by a test that does not end); by stage: row 2, suite 1; seconds to catch one: median 8.0, worst 90."
	if got := score(all); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestScoreOfTheSimulation(t *testing.T) {
	all := []verdict{
		{Mutant: "a", Verdict: caught, Stage: "simulation", Seeds: 3, Seconds: 4},
		{Mutant: "b", Verdict: caught, Stage: "simulation", Seeds: 1, Seconds: 2},
		{Mutant: "c", Verdict: caught, Stage: "simulation", Seeds: 30, Seconds: 40}, {Mutant: "d", Verdict: missed, Seconds: 60},
	}
	want := "4 mutants: 3 caught, 1 missed; by stage: simulation 3; seconds to catch one: median 4.0, worst 40; seeds: median 3, worst 30."
	if got := score(all); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for said, want := range map[string]string{
		"SIMULATION {}\n--- FAIL: TestSeeds\n    simulation_test.go:71: seed 4: I2: entries differ\n    I9: so do clients\n": "seed 4: I2: entries differ",
		"panic: term 3 has two leaders [recovered]\n\ngoroutine 1":                                                           "panic: term 3 has two leaders [recovered]",
	} {
		if o := (outcome{said: said}); o.reason() != want {
			t.Errorf("%q, want %q", o.reason(), want)
		}
	}
}

func TestSeedsOfTheSimulationAreStages(t *testing.T) {
	b := bench{clean: root, seeds: "3", simulate: true}
	all, err := b.stages(&mutant{row: "1"})
	if err != nil || len(all) != 3 || all[2].dir != "simulation" || all[2].env[0] != "SIM_SEEDS=3" {
		t.Errorf("%+v, %v", all, err)
	}
	b.seeds = "1-3"
	if _, err := b.stages(&mutant{row: "1"}); err == nil {
		t.Error("the seeds have to be a number")
	}
}

func TestVerdictsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results")
	for _, v := range []verdict{{Mutant: "a", Verdict: missed}, {Mutant: "b", Verdict: caught}, {Mutant: "a", Verdict: caught, Test: "TestA"}} {
		if err := writeVerdict(file, &v); err != nil {
			t.Fatal(err)
		}
	}
	known, err := readVerdicts(file)
	if err != nil || len(known) != 2 || known["a"].Test != "TestA" {
		t.Errorf("%v, %v: the last verdict on a mutant counts", known, err)
	}
}
