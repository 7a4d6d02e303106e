package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

// A usageError is about the command line.
type usageError struct{ error }

// parse reads a command's flags; nothing may follow them.
func parse(flags *flag.FlagSet, args []string) error {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("%s: what is %q?", flags.Name(), flags.Arg(0))}
	}
	return nil
}

// A commandLine is a laboratory that its flags describe.
type commandLine struct {
	guest   string
	cache   string
	built   string
	silence time.Duration
	limit   time.Duration
	budget  int64
	workers int
}

// commandFlags begins a command's flags with those that all commands have.
func commandFlags(name string) (*flag.FlagSet, *commandLine) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	c := new(commandLine)
	flags.StringVar(&c.guest, "guest", defaultGuest, "package of the simulation")
	flags.StringVar(&c.cache, "cache", defaultCache(), "directory for guests compiled from wasm")
	flags.StringVar(&c.built, "built", "", "directory that keeps the guest's binaries: those that are there are taken, not built anew")
	flags.DurationVar(&c.silence, "silence", 2*time.Minute, "without a report of a native seed, until it counts as hung")
	flags.DurationVar(&c.limit, "limit", 0, "real time a run in wasm may take: ends a guest that spins, and makes all slower by four")
	flags.Int64Var(&c.budget, "budget", clockBudget, "readings of the clock a run in wasm may take: ends a livelock")
	flags.IntVar(&c.workers, "workers", cores(), "runs at once")
	return flags, c
}

// use makes the laboratory and clears it away after what is done in it.
func (c *commandLine) use(work func(*laboratory) error) error {
	l, err := newLaboratory(c.guest, c.cache, c.built)
	if err != nil {
		return err
	}
	l.silence, l.limit, l.budget, l.workers = c.silence, c.limit, c.budget, max(c.workers, 1)
	return errors.Join(work(l), l.close())
}
