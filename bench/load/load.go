// Package load measures a replicated system from outside: closed-loop clients,
// each of which waits for one answer before it asks again, and what the process
// spent meanwhile. Every system under comparison is a program around Main, so
// that all of them are asked in the same way; the package needs nothing but the
// standard library, because each program chooses its own dependencies.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

// The workloads that a system may know. One that it does not know is
// ErrWorkload from its start function.
const (
	Write    = "write"    // commands, each answered when it is durable on a majority and applied
	Read     = "read"     // linearizable reads of one value, while nothing is written
	Stalled  = "stalled"  // the same while one follower takes nothing in
	Snapshot = "snapshot" // the same while a new server is sent a snapshot
	Leader   = "leader"   // commands, while a profile tells what each server costs
	Idle     = "idle"     // no clients at all
	Start    = "start"    // no clients: a server that has been stopped starts again
)

// Config is what one run is to do.
type Config struct {
	Workload string
	Clients  int
	Size     int // bytes of a command's payload
	Servers  int
	Entries  int           // that are written, one command each, before anything else
	Dir      string        // an empty directory on the disk to be measured
	Warmup   time.Duration // before the figures are taken
	Window   time.Duration // while they are taken
}

// System is a cluster of servers in this process.
type System interface {
	// Client returns what one client does again and again: it returns when the
	// system has answered. Only one goroutine calls it.
	Client(number int) (func(context.Context) error, error)
	Close() error
}

// Disturber is a System whose workload lasts as long as something that it does
// meanwhile. The window ends when Disturb returns.
type Disturber interface {
	Disturb(ctx context.Context) error
}

// Watcher is a System that hears when the window begins and when it has ended.
type Watcher interface {
	Began() error
	Ended() error
}

// Teller is a System with figures of its own.
type Teller interface{ Tell() map[string]float64 }

// ErrWorkload says that a system does not have the workload.
type ErrWorkload struct{ Workload string }

// Error names the workload.
func (e ErrWorkload) Error() string { return "no workload " + e.Workload }

// Main runs one measurement as the command line says, and prints its Result as
// JSON.
func Main(start func(Config) (System, error)) {
	var c Config
	flag.StringVar(&c.Workload, "workload", Write, "what the clients do")
	flag.IntVar(&c.Clients, "clients", 64, "how many clients")
	flag.IntVar(&c.Size, "size", 128, "bytes of a command")
	flag.IntVar(&c.Servers, "servers", 3, "how many servers")
	flag.IntVar(&c.Entries, "entries", 0, "how many commands are written first, so that they lie in the log")
	flag.StringVar(&c.Dir, "dir", "", "an empty directory on the disk to be measured; default: a new one here")
	flag.DurationVar(&c.Warmup, "warmup", time.Second, "how long before the figures are taken")
	flag.DurationVar(&c.Window, "window", 3*time.Second, "for how long they are taken")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the window to this file")
	allocs := flag.String("allocprofile", "", "write a profile of what the whole run allocated to this file")
	flag.Parse()
	if err := run(c, start, *profile, *allocs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(c Config, start func(Config) (System, error), profile, allocs string) (err error) {
	if c.Dir == "" {
		if c.Dir, err = os.MkdirTemp(".", "bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(c.Dir)
	}
	system, err := start(c)
	if err != nil {
		return err
	}
	m := measurement{config: c, system: system}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		m.began = func() { _ = pprof.StartCPUProfile(f) }
		m.ended = pprof.StopCPUProfile
	}
	result, err := m.run()
	if allocs != "" {
		err = errors.Join(err, writeAllocs(allocs))
	}
	if closed := system.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func writeAllocs(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
