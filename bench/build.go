package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The systems that have a part of their own in what is told.
const (
	ours     = "ours"
	theFloor = "floor"
	growing  = "floor-grow" // the floor with files that grow, as logs do
)

// system is a program around load.Main.
type system struct {
	name string
	dir  string // its package, below the root
	peer bool   // a module of its own, outside the workspace
	args []string
}

var systems = []system{
	{ours, "bench/ours", false, nil},
	{theFloor, "bench/floor", false, nil},
	{growing, "bench/floor", false, []string{"-grow"}},
	{"hashicorp", "bench/peers/hashicorp", true, nil},
	{"etcd", "bench/peers/etcd", true, nil},
	{"dragonboat", "bench/peers/dragonboat", true, nil},
}

func names() (all []string) {
	for _, s := range systems {
		all = append(all, s.name)
	}
	return all
}

func peers() (all []string) {
	for _, s := range systems {
		if s.peer {
			all = append(all, s.name)
		}
	}
	return all
}

// systemName is the name, if there is such a system.
func systemName(name string) (string, error) {
	if !slices.Contains(names(), name) {
		return "", fmt.Errorf("no system %q", name)
	}
	return name, nil
}

// sourceRoot is the directory of the library's source.
func sourceRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/goraft/raft/bench").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w: bench builds its programs from source, so it runs inside the source tree", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// build makes the programs, and returns by the systems' names how they are called. A
// peer that does not build is noted and left out.
func build(ctx context.Context, root string, wanted []string) (programs map[string][]string, notes []string, err error) {
	programs = make(map[string][]string)
	for _, s := range systems {
		if !slices.Contains(wanted, s.name) {
			continue
		}
		program := filepath.Join(root, "bin", "bench", "programs", s.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
		cmd.Dir = filepath.Join(root, filepath.FromSlash(s.dir))
		cmd.Env = os.Environ()
		if s.peer {
			cmd.Env = append(cmd.Env, "GOWORK=off")
		}
		fmt.Fprintln(os.Stderr, "building", s.name)
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			programs[s.name] = append([]string{program}, s.args...)
		case s.peer && ctx.Err() == nil:
			notes = append(notes, fmt.Sprintf("%s is left out: it does not build: %v %s", s.name, err, lastLine(out)))
			fmt.Fprintln(os.Stderr, notes[len(notes)-1])
		default:
			return nil, nil, fmt.Errorf("building %s: %w\n%s", s.name, err, out)
		}
	}
	return programs, notes, nil
}
