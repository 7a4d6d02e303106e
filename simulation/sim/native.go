package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A process runs the guest as an ordinary binary. It is fast, and may be built
// with the race detector; what it did it may not do again.
type process struct {
	file    string
	silence time.Duration // without a report, until the guest counts as hung
	short   bool
	gogc    string // "" for the usual
}

// nativeGOGC trades memory for speed: a run's garbage is small.
const nativeGOGC = "400"

// seeds runs count seeds from first on, and goes on behind a seed of which the
// guest died. It returns fewer outcomes only with an error.
func (p *process) seeds(ctx context.Context, first uint64, count int) ([]outcome, error) {
	var all []outcome
	for len(all) < count {
		some, err := p.start(ctx, first+uint64(len(all)), count-len(all), "")
		all = append(all, some...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// traced runs one seed natively and has the guest write its trace to a file.
func (p *process) traced(ctx context.Context, seed uint64, file string) (outcome, error) {
	some, err := p.start(ctx, seed, 1, file)
	if err != nil {
		return outcome{}, err
	}
	return some[0], nil
}

func (p *process) environment(first uint64, count int, traceFile string) []string {
	gogc := p.gogc
	if gogc == "" {
		gogc = nativeGOGC
	}
	seeds := strconv.FormatUint(first, 10)
	if count != 1 {
		seeds += "-" + strconv.Itoa(count)
	}
	env := append(os.Environ(),
		"GOGC="+gogc,
		"GOMAXPROCS=2", // one more than the share of a child, so that goroutines do run at once
		"GORACE=halt_on_error=1",
		"GOTRACEBACK=all",
		"SIM_SEEDS="+seeds, "SIM_NEIGHBOUR=0", "SIM_SKIP=", "SIM_SHORT=", "SIM_TRACE="+traceFile)
	if p.short {
		env = append(env, "SIM_SHORT=1")
	}
	return env
}

// start runs one process of the guest until it ends. The seeds that it reported
// come back, and the one of which it died.
func (p *process) start(ctx context.Context, first uint64, count int, traceFile string) ([]outcome, error) {
	cmd := exec.CommandContext(ctx, p.file, guestArguments()...)
	cmd.Env = p.environment(first, count, traceFile)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l := &listener{next: first, patience: p.silence}
	cmd.Stderr = &l.printed
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	hung := l.listen(pipe, cmd.Process)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return l.outcomes, ctx.Err()
	}
	l.judge(count, hung, err)
	return l.outcomes, nil
}

// A listener hears what a process of the guest says.
type listener struct {
	next     uint64 // the seed that is running
	outcomes []outcome
	patience time.Duration
	printed  lockedTape
	wrong    error // a report that breaks the contract
}

// listen reads reports to the end of the output. If none comes in time it has the
// process write its stacks and die, and says so.
func (l *listener) listen(pipe io.Reader, child *os.Process) (hung bool) {
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		r := bufio.NewReader(pipe)
		for {
			line, err := r.ReadBytes('\n')
			if len(line) > 0 {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	patience := time.NewTimer(l.patience)
	defer patience.Stop()
	for {
		select {
		case line, more := <-lines:
			if !more {
				return hung
			}
			if l.hear(line) {
				patience.Reset(l.patience)
			}
		case <-patience.C:
			// The second time it does not even answer the signal any more. That it
			// may be gone already is why the errors say nothing.
			if hung {
				_ = child.Kill()
			} else {
				_ = child.Signal(syscall.SIGQUIT)
			}
			hung = true
			patience.Reset(10 * time.Second)
		}
	}
}

// hear takes one line of output and says whether it was a report.
func (l *listener) hear(line []byte) bool {
	r, ok, err := parseReport(line)
	if err == nil && ok && r.Seed != l.next {
		err = fmt.Errorf("a report of seed %d while %d is running", r.Seed, l.next)
	}
	switch {
	case err != nil:
		l.wrong = errors.Join(l.wrong, err)
	case !ok:
		_, _ = l.printed.Write(line)
	default:
		o := outcome{report: r, output: l.printed.take()}
		if o.failed() {
			o.kind = failedCheck
		}
		l.outcomes = append(l.outcomes, o)
		l.next++
	}
	return ok
}

// judge adds the outcome of the seed of which the process died, if it did.
func (l *listener) judge(count int, hung bool, end error) {
	o := outcome{report: report{Seed: l.next}, output: l.printed.take()}
	how := "exit code 0"
	if end != nil {
		how = end.Error()
	}
	anyFailed := false
	for i := range l.outcomes {
		anyFailed = anyFailed || l.outcomes[i].failed()
	}
	switch {
	case hung:
		o.kind, o.Failure = failedHang, fmt.Sprintf("hang: no report in %s\n%s", l.patience, o.output)
	case l.wrong != nil:
		o.kind, o.Failure = failedGuest, l.wrong.Error()
	case len(l.outcomes) < count:
		o.kind, o.Failure = diagnose(o.output, how)
	case end != nil && !anyFailed:
		// All reported well and yet it failed: the last one has to stand for it.
		last := &l.outcomes[len(l.outcomes)-1]
		last.kind, last.Failure = diagnose(o.output, how)
		return
	default:
		return
	}
	if len(l.outcomes) < count {
		l.outcomes = append(l.outcomes, o)
		return
	}
	o.Seed = l.outcomes[count-1].Seed
	l.outcomes[count-1] = o
}

// A lockedTape is a tape that the two outputs of a process share.
type lockedTape struct {
	sync.Mutex
	tape
}

func (t *lockedTape) Write(p []byte) (int, error) {
	t.Lock()
	defer t.Unlock()
	return t.tape.Write(p)
}

// take returns what was written since the last time.
func (t *lockedTape) take() string {
	t.Lock()
	defer t.Unlock()
	text := string(t.kept)
	t.kept = nil
	return text
}
