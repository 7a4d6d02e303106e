// Command raftd is a replicated key-value store, the reference service of
// package raft.
//
// Without arguments it runs three servers in one process:
//
//	raftd
//
// With a directory it runs one server, which begins a cluster of its own or
// joins another:
//
//	raftd -p 4001 DIR1
//	raftd -p 4002 -join localhost:4001 DIR2
//
// Any server takes any request; what only the leader can do is answered with a
// redirect (307) to it:
//
//	curl -L -X PUT --data-binary hello http://127.0.0.1:4001/db/greeting
//	curl -L http://127.0.0.1:4002/db/greeting
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/goraft/raft"
)

// How raftd runs its servers, as goraft's did.
const (
	electionTimeout   = time.Second
	heartbeatInterval = 100 * time.Millisecond
)

// The exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program, without its process.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	context.AfterFunc(ctx, cancel) // a second signal ends the process at once
	if err := o.serve(ctx, stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}

// invocation is what the command line says.
type invocation struct {
	config
	join  string
	three bool
	ports []int // of the three
}

// parse reads the command line; what is wrong with it has been told to stderr.
func parse(args []string, stderr io.Writer) (*invocation, error) {
	o := &invocation{config: config{
		electionTimeout: electionTimeout, heartbeatInterval: heartbeatInterval,
		maxEntryBytes: raft.DefaultMaxEntryBytes,
	}}
	flags := flag.NewFlagSet("raftd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.host, "h", "127.0.0.1", "the `host` to listen on, by which the other servers reach this one")
	flags.IntVar(&o.port, "p", 4001, "the `port` of one server")
	flags.StringVar(&o.join, "join", "", "`host:port` of a server whose cluster to join")
	ports := flags.String("ports", "4001,4002,4003", "the `ports` of three servers in one process")
	data := flags.String("data", "raftd-data", "the `directory` of three servers in one process")
	verbose := flags.Bool("v", false, "log what happens to the server")
	trace := flags.Bool("trace", false, "log everything")
	debug := flags.Bool("debug", false, "log everything")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: raftd [-data DIR] [-ports P,P,P]\n       raftd [-p PORT] [-join HOST:PORT] DIR\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	level := slog.LevelWarn
	switch {
	case *trace || *debug:
		level = slog.LevelDebug
	case *verbose:
		level = slog.LevelInfo
	}
	o.logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if err := o.settle(flags, *data, *ports); err != nil {
		fmt.Fprintln(stderr, err)
		return nil, err
	}
	return o, nil
}

// settle decides between one server and three, and refuses what makes no sense.
func (o *invocation) settle(flags *flag.FlagSet, data, ports string) error {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if ip := net.ParseIP(o.host); o.host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("raftd: -h %q: the other servers need a host that they can reach", o.host)
	}
	switch flags.NArg() {
	case 1:
		o.dir = flags.Arg(0)
		if given["data"] || given["ports"] {
			return errors.New("raftd: -data and -ports are for three servers in one process, which take no directory")
		}
		return checkPort(o.port)
	case 0:
		if given["p"] || given["join"] {
			return errors.New("raftd: -p and -join are for one server, which needs a directory")
		}
	default:
		return errors.New("raftd: more than one directory")
	}
	o.three, o.dir = true, data
	for text := range strings.SplitSeq(ports, ",") {
		port, err := strconv.Atoi(strings.TrimSpace(text))
		if err == nil {
			err = checkPort(port)
		}
		if err != nil {
			return fmt.Errorf("raftd: -ports %q: %w", ports, err)
		}
		o.ports = append(o.ports, port)
	}
	if len(o.ports) != 3 {
		return fmt.Errorf("raftd: -ports %q: three are needed", ports)
	}
	return nil
}

func checkPort(port int) error {
	if port <= 0 || port > 1<<16-1 {
		return fmt.Errorf("raftd: there is no port %d", port)
	}
	return nil
}

// serve runs the servers until ctx ends or one of them fails.
func (o *invocation) serve(ctx context.Context, stdout io.Writer) (err error) {
	var nodes []*node
	if o.three {
		nodes, err = openThree(o.config, o.ports)
	} else {
		var n *node
		n, err = openNode(o.config)
		nodes = []*node{n}
	}
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	entering, cancel := context.WithCancel(ctx)
	defer cancel()
	err = o.start(entering, nodes, failed)
	if err == nil {
		o.greet(stdout, nodes)
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	cancel()
	return errors.Join(err, stopAll(nodes))
}

// start starts the servers, and makes them a cluster while they serve.
func (o *invocation) start(ctx context.Context, nodes []*node, failed chan<- error) error {
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	enter := func() error { return nodes[0].enter(ctx, o.join) }
	if o.three {
		var unused []*node
		for _, n := range nodes {
			if n.unused() {
				unused = append(unused, n)
			}
		}
		enter = func() error { return enterThree(ctx, nodes, unused) }
		if err := startThree(nodes); err != nil {
			return err
		}
	} else if err := nodes[0].start(); err != nil {
		return err
	}
	for _, n := range nodes {
		go func() {
			select {
			case err := <-n.failed:
				fail(fmt.Errorf("raftd: server %s stopped: %w", n.name, err))
			case <-ctx.Done():
			}
		}()
	}
	go func() {
		if err := enter(); err != nil && ctx.Err() == nil {
			fail(err)
		}
	}()
	return nil
}

// greet says where the servers are and what to try.
func (o *invocation) greet(stdout io.Writer, nodes []*node) {
	for _, n := range nodes {
		fmt.Fprintf(stdout, "raftd: server %s at %s, data in %s\n", n.name, n.address, n.config.dir)
	}
	first, last := nodes[0].address, nodes[len(nodes)-1].address
	fmt.Fprintf(stdout, "try:   curl -L -X PUT --data-binary hello %s%sgreeting && curl -L %s%sgreeting\n", first, keyPrefix, last, keyPrefix)
}
