// Sim runs the simulation of package simulation, its guest: many seeds natively,
// and in wasm where a seed repeats to the last byte. It is started in the root of
// the tree.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// defaultGuest is the package whose tests are the simulation.
const defaultGuest = "github.com/goraft/raft/simulation"

const usage = `Sim runs whole clusters under a seed, and replays what fails.

    go run ./simulation/sim COMMAND [FLAGS]

  run       many seeds, natively on all cores, and sums of what happened
              run -seeds 300 -hours 2              at least so many of each
              run -hours 100 -state bin/sim.json   goes on where it was ended
              run -seeds 20 -race                  with the race detector
              run -seeds 20 -wasm                  the slow way, to compare
            A seed that fails is run again in wasm. Where it fails there too, the
            command that replays it is printed; where it does not, the trace of
            the native run is kept and neighbouring schedules are searched.
  replay    one seed in wasm, with its readable trace, up to its failure
              replay -seed 7
              replay -seed 7 -neighbour 3 -skip 0-4,9 -last 200
  minimize  the smallest fault schedule with which a seed fails
              minimize -seed 7
  check     that runs repeat: seeds twice in wasm, and once in the interpreter
              check -seeds 20

Each command tells its flags with -h. The exit code is 1 if a seed failed, did not
repeat or a kind of fault never happened, 2 if the command line is wrong.
`

// The exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// commands are what the program can be told to do.
var commands = map[string]func(ctx context.Context, args []string, out io.Writer) error{
	"run":      volumeCommand,
	"replay":   replayCommand,
	"minimize": minimizeCommand,
	"check":    checkCommand,
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

// run is the program, without its process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	command, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "sim: no command %q\n\n%s", args[0], usage)
		return exitUsage
	}
	err := command(ctx, args[1:], stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, new(usageError)):
		fmt.Fprintln(stderr, "sim:", err)
		return exitUsage
	default:
		fmt.Fprintln(stderr, "sim:", err)
		return exitFailed
	}
}

// defaultCache is where compiled guests outlive the program, "" if nowhere.
func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "goraft-simulation")
}
