package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A mutant is one bug of the catalogue as a patch against the library.
type mutant struct {
	name    string // of the file, without .patch
	row     string // of the catalogue
	what    string
	catches []hint
	hash    string
	files   []filePatch
}

// A hint names tests to try first: those that the expression matches in the package
// of a directory.
type hint struct{ dir, expr string }

// filePatch is what a patch does to one file.
type filePatch struct {
	name  string // from the root of the tree
	hunks []hunk
}

// A hunk replaces lines that stand next to each other, context included.
type hunk struct {
	at       string // its header, for messages
	old, new []string
}

var rowName = regexp.MustCompile(`^[0-9]{1,3}$`)

// parseMutant reads a patch: a header of "Row:" and "Catches:" lines and a sentence,
// then a unified diff.
func parseMutant(name string, text []byte) (*mutant, error) {
	sum := sha256.Sum256(text)
	m := &mutant{name: strings.TrimSuffix(name, ".patch"), hash: hex.EncodeToString(sum[:8])}
	header, diff, found := strings.Cut(string(text), "\n--- a/")
	if !found {
		return nil, errors.New("no diff")
	}
	for line := range strings.Lines(header) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" || strings.HasPrefix(line, "diff ") || strings.HasPrefix(line, "index "):
		case key == "Row":
			m.row = value
		case key == "Catches":
			for word := range strings.FieldsSeq(value) {
				dir, expr, far := strings.Cut(word, ":")
				if !far {
					dir, expr = "", word
				}
				m.catches = append(m.catches, hint{dir, expr})
			}
		default:
			m.what = strings.TrimSpace(m.what + " " + line)
		}
	}
	if !rowName.MatchString(m.row) || m.what == "" {
		return nil, errors.New("its header lacks the row or the sentence")
	}
	if !strings.HasPrefix(m.name, fmt.Sprintf("%03s-", m.row)) {
		return nil, fmt.Errorf("row %s does not begin its name", m.row)
	}
	return m, m.parseDiff("--- a/" + diff)
}

func (m *mutant) parseDiff(diff string) error {
	var file *filePatch
	var last *hunk
	for line := range strings.SplitSeq(strings.TrimSuffix(diff, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "--- a/"):
			m.files = append(m.files, filePatch{name: strings.TrimPrefix(line, "--- a/")})
			file, last = &m.files[len(m.files)-1], nil
		case last == nil && strings.HasPrefix(line, "+++ b/"):
		case strings.HasPrefix(line, "@@ ") && file != nil:
			file.hunks = append(file.hunks, hunk{at: line})
			last = &file.hunks[len(file.hunks)-1]
		case strings.HasPrefix(line, "diff ") || strings.HasPrefix(line, "index "):
			last = nil
		case last == nil:
			return fmt.Errorf("%q is outside of a hunk", line)
		case line == "" || line[0] == ' ':
			last.old, last.new = append(last.old, strings.TrimPrefix(line, " ")), append(last.new, strings.TrimPrefix(line, " "))
		case line[0] == '-':
			last.old = append(last.old, line[1:])
		case line[0] == '+':
			last.new = append(last.new, line[1:])
		default:
			return fmt.Errorf("%q in a hunk", line)
		}
	}
	return nil
}

// apply puts the patch into effect in a copy of the tree. The lines that a hunk
// replaces must stand in the file once, wherever that is: a patch that could mean
// two places would be another bug after the next change around it. The caller takes
// a failed or finished application back with revert.
func (m *mutant) apply(dir string) error {
	for i := range m.files {
		f := &m.files[i]
		text, err := f.applied(dir)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(f.name)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// applied returns the text of the file in a tree, with the patch in it.
func (f *filePatch) applied(tree string) (string, error) {
	text, err := os.ReadFile(filepath.Join(tree, filepath.FromSlash(f.name)))
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(text), "\n")
	for i := range f.hunks {
		if lines, err = f.hunks[i].replace(lines); err != nil {
			return "", fmt.Errorf("%s: %s: %w", f.name, f.hunks[i].at, err)
		}
	}
	return strings.Join(lines, "\n"), nil
}

func (h *hunk) replace(lines []string) ([]string, error) {
	place := -1
	for i := 0; i+len(h.old) <= len(lines); i++ {
		if !slices.Equal(lines[i:i+len(h.old)], h.old) {
			continue
		}
		if place >= 0 {
			return nil, fmt.Errorf("it fits at line %d and at line %d: give it more context", place+1, i+1)
		}
		place = i
	}
	if place < 0 {
		return nil, errors.New("it fits nowhere")
	}
	return slices.Concat(lines[:place], h.new, lines[place+len(h.old):]), nil
}

// revert puts the files that the patch touches back, from the tree they came from.
func (m *mutant) revert(dir, from string) error {
	for _, f := range m.files {
		name := filepath.FromSlash(f.name)
		if err := copyFile(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// dirs are the directories of the packages that the patch touches.
func (m *mutant) dirs() []string {
	var dirs []string
	for _, f := range m.files {
		if d := path.Dir(f.name); !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// loadMutants reads all patches of a directory, in the order of their names.
func loadMutants(dir string) ([]*mutant, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []*mutant
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m, err := parseMutant(filepath.Base(name), text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no patches in %s", dir)
	}
	return all, nil
}
