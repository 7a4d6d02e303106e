package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// A build is one way to compile the guest.
type build string

const (
	buildNative build = "native"
	buildRace   build = "race"
	buildWasm   build = "wasm"
)

// compile builds the guest's test binary.
func compile(ctx context.Context, guest string, how build, file string) error {
	args := []string{"test", "-tags", "simulation", "-buildvcs=false", "-c", "-o", file}
	env := os.Environ()
	switch how {
	case buildRace:
		args = append(args, "-race")
	case buildWasm:
		// Paths lie in the guest's memory. Without them one source is one guest
		// wherever the tree is, so that a seed replays on another machine too.
		args = append(args, "-trimpath")
		env = append(env, "GOOS=wasip1", "GOARCH=wasm")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, guest)...)
	cmd.Env = env
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("building %s (%s): %w\n%s", guest, how, err, output)
	}
	if _, err := os.Stat(file); err != nil { // a package without tests builds nothing
		return fmt.Errorf("building %s (%s): no test binary: %s", guest, how, output)
	}
	return nil
}
