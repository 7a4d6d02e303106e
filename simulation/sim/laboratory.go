package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A laboratory holds the guest in the forms in which it was built; each is built
// when it is first asked for.
type laboratory struct {
	guest   string // the package
	cache   string
	silence time.Duration
	limit   time.Duration
	budget  int64
	workers int

	dir      string // of the binaries
	kept     bool   // the binaries stay there, and are taken from there
	building sync.Mutex
	files    map[build]string
	machines map[bool]*machine // by interpreter
}

func newLaboratory(guest, cache, built string) (*laboratory, error) {
	dir, err := built, error(nil)
	if built == "" {
		dir, err = os.MkdirTemp("", "raft-sim-")
	} else {
		err = os.MkdirAll(built, 0o755)
	}
	if err != nil {
		return nil, err
	}
	return &laboratory{
		guest: guest, cache: cache, dir: dir, kept: built != "", silence: 2 * time.Minute, budget: clockBudget, workers: cores(),
		files: make(map[build]string), machines: make(map[bool]*machine),
	}, nil
}

func (l *laboratory) close() error {
	for _, m := range l.machines {
		m.close()
	}
	if l.kept {
		return nil
	}
	return os.RemoveAll(l.dir)
}

// file is the guest's binary.
func (l *laboratory) file(ctx context.Context, how build) (string, error) {
	if file, ok := l.files[how]; ok {
		return file, nil
	}
	file := filepath.Join(l.dir, "guest-"+string(how))
	if _, err := os.Stat(file); err != nil || !l.kept {
		if err := compile(ctx, l.guest, how, file); err != nil {
			return "", err
		}
	}
	l.files[how] = file
	return file, nil
}

// native is the guest as a process.
func (l *laboratory) native(ctx context.Context, how build, short bool) (*process, error) {
	l.building.Lock()
	defer l.building.Unlock()
	file, err := l.file(ctx, how)
	if err != nil {
		return nil, err
	}
	return &process{file: file, silence: l.silence, short: short}, nil
}

// wasm is the guest as a machine.
func (l *laboratory) wasm(ctx context.Context, interpreter bool) (*machine, error) {
	l.building.Lock()
	defer l.building.Unlock()
	if m, ok := l.machines[interpreter]; ok {
		return m, nil
	}
	file, err := l.file(ctx, buildWasm)
	if err != nil {
		return nil, err
	}
	m, err := newMachine(ctx, file, machineOptions{interpreter: interpreter, cache: l.cache, limit: l.limit, budget: l.budget})
	if err != nil {
		return nil, err
	}
	l.machines[interpreter] = m
	return m, tidyCache(l.cache)
}

// command is a command line of this program about the scenario, to be pasted
// into a shell in the root of the tree.
func (l *laboratory) command(verb string, s scenario, more ...string) string {
	words := []string{"go run ./simulation/sim", verb}
	if l.guest != defaultGuest {
		words = append(words, "-guest", l.guest)
	}
	if l.budget != clockBudget {
		more = append(more, "-budget", strconv.FormatInt(l.budget, 10))
	}
	return strings.Join(append(append(words, s.flags()), more...), " ")
}

// keptGuests is how many compiled guests the cache keeps.
const keptGuests = 8

// tidyCache removes the oldest compiled guests: every change of the guest makes a
// new one, of some ten megabytes.
func tidyCache(dir string) error {
	if dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if err != nil || len(files) <= keptGuests {
		return err
	}
	age := make(map[string]time.Time, len(files))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil { // another run tidies as well
			age[file] = info.ModTime()
		}
	}
	slices.SortFunc(files, func(a, b string) int { return age[b].Compare(age[a]) })
	for _, file := range files[keptGuests:] {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
