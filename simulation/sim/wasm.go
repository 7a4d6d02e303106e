package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

const (
	// epoch is when the guest's clock starts, in Unix nanoseconds.
	epoch = 1_000_000_000_000_000_000

	// tick is how far the guest's clock moves when it is read. Were it 0, a loop
	// that waits by reading the clock would never end.
	tick = 100

	// wasmPage is the unit of a guest's memory.
	wasmPage = 64 << 10

	// clockBudget is how often a run may read its clock. A run of two virtual minutes
	// takes fifty thousand readings or so; a livelock does not end.
	clockBudget = 10_000_000
)

// A machine runs the guest in wasm, where nothing but the scenario decides: one
// thread, a clock that only moves when it is read or slept on, one source of
// randomness. It may be used by several goroutines at once.
type machine struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
	options machineOptions
	guest   string // SHA-256 of the binary, shortened
}

// machineOptions are the choices about a machine.
type machineOptions struct {
	interpreter bool
	cache       string        // directory for compiled guests, "" for none
	limit       time.Duration // of real time a run; costs much speed
	budget      int64         // readings of the clock a run, 0 for the usual
	gc          []string      // the guest's GOGC and GOMEMLIMIT, nil for the usual
}

// guestGC pins when the guest collects garbage. That is decided by what it
// allocates, hence repeats, but a collection changes the order of timers that are
// due at one instant: no run may choose its own.
func guestGC() []string { return []string{"GOGC=off", "GOMEMLIMIT=256MiB"} }

// newMachine compiles the guest, or takes it from the cache.
func newMachine(ctx context.Context, file string, options machineOptions) (*machine, error) {
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config := wazero.NewRuntimeConfigCompiler()
	if options.interpreter {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	if options.cache != "" {
		cache, err := wazero.NewCompilationCacheWithDir(options.cache)
		if err != nil {
			return nil, err
		}
		config = config.WithCompilationCache(cache)
	}
	if options.limit > 0 {
		config = config.WithCloseOnContextDone(true)
	}
	config = config.WithMemoryLimitPages(2 << 30 / wasmPage)
	if options.budget == 0 {
		options.budget = clockBudget
	}
	if options.gc == nil {
		options.gc = guestGC()
	}
	m := &machine{runtime: wazero.NewRuntimeWithConfig(ctx, config), options: options}
	sum := sha256.Sum256(binary)
	m.guest = hex.EncodeToString(sum[:6])
	if err := m.load(ctx, binary); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *machine) load(ctx context.Context, binary []byte) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, m.runtime); err != nil {
		return err
	}
	_, err := m.runtime.NewHostModuleBuilder("simulation").NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(trace), []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, nil).
		Export("trace").Instantiate(ctx)
	if err != nil {
		return err
	}
	m.module, err = m.runtime.CompileModule(ctx, binary)
	return err
}

func (m *machine) close() {
	// What a closed runtime still says is nothing that a run depends on.
	_ = m.runtime.Close(context.Background())
}

// The reasons for which the host ends a guest, out of the guest's own calls.
var (
	errStopped = errors.New("stopped")
	errBudget  = errors.New("livelock: the budget of clock readings is spent")
)

// An instance is one run of the guest: its clock and where its trace goes.
type instance struct {
	ctx      context.Context
	now      int64
	readings int64
	budget   int64
	lines    int
	sink     func(line []byte) // nil to keep none
}

type instanceKey struct{}

// trace is called by the guest with every line of its trace, kept or not, so that
// keeping it changes nothing in the guest.
func trace(ctx context.Context, mod api.Module, stack []uint64) {
	in := ctx.Value(instanceKey{}).(*instance)
	in.lines++
	if in.sink == nil {
		return
	}
	line, ok := mod.Memory().Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		panic(errors.New("trace: outside the guest's memory"))
	}
	in.sink(bytes.TrimSuffix(line, []byte("\n")))
}

// read moves the clock, and is where a run is ended from outside.
func (in *instance) read() int64 {
	in.readings++
	if in.readings > in.budget {
		panic(errBudget)
	}
	if in.readings%1024 == 0 && in.ctx.Err() != nil {
		panic(errStopped)
	}
	in.now += tick
	return in.now
}

// config is everything that the guest can reach.
func (in *instance) config(s scenario, gc []string) wazero.ModuleConfig {
	// The neighbour draws the runtime's own choices anew, too: the order of
	// selects and of equal timers.
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], s.Seed)
	binary.LittleEndian.PutUint64(key[8:], s.Neighbour)
	config := wazero.NewModuleConfig().WithName("").
		WithArgs(append([]string{"guest"}, guestArguments()...)...).
		WithRandSource(rand.NewChaCha8(key)).
		WithWalltime(func() (int64, int32) {
			t := epoch + in.read()
			return t / 1e9, int32(t % 1e9)
		}, 1).
		WithNanotime(func() int64 { return in.read() + 1 }, 1). // the runtime throws on 0
		WithNanosleep(func(ns int64) { in.now += ns }).
		WithOsyield(func() {}).
		WithStartFunctions()
	for _, variable := range append(gc[:len(gc):len(gc)], s.environment()...) {
		name, value, _ := strings.Cut(variable, "=")
		config = config.WithEnv(name, value)
	}
	return config
}

// run runs one scenario to its end. Every line of the trace goes to sink, if
// there is one, which must not keep the slice. An error says that the run was
// stopped or could not be made; a guest that died is an outcome.
func (m *machine) run(ctx context.Context, s scenario, sink func([]byte), hashMemory bool) (outcome, error) {
	if m.options.limit > 0 {
		limited, cancel := context.WithTimeout(ctx, m.options.limit)
		defer cancel()
		ctx = limited
	}
	in := &instance{ctx: ctx, budget: m.options.budget, sink: sink}
	var printed tape
	var reports []report
	var wrong error
	splitter := lineSplitter{line: func(line []byte) {
		r, ok, err := parseReport(line)
		switch {
		case err != nil:
			wrong = err
		case ok:
			reports = append(reports, r)
		default:
			_, _ = printed.Write(append(line, '\n'))
		}
	}}
	ctx = context.WithValue(ctx, instanceKey{}, in)
	config := in.config(s, m.options.gc).WithStdout(&splitter).WithStderr(&printed)
	module, err := m.runtime.InstantiateModule(ctx, m.module, config)
	if err != nil {
		return outcome{}, err
	}
	defer module.Close(context.WithoutCancel(ctx))
	_, err = module.ExportedFunction("_start").Call(ctx)
	splitter.close()

	o := outcome{output: string(printed.kept), lines: in.lines, clock: in.readings}
	if hashMemory {
		memory, _ := module.Memory().Read(0, module.Memory().Size())
		sum := sha256.Sum256(memory)
		o.memory = hex.EncodeToString(sum[:])
	}
	if errors.Is(err, errStopped) {
		return o, errStopped
	}
	o.judge(s, reports, wrong, err)
	return o, nil
}

// judge says what became of the scenario, by the guest's reports and its end.
func (o *outcome) judge(s scenario, reports []report, wrong, end error) {
	code := uint32(0)
	if exit := new(sys.ExitError); errors.As(end, &exit) {
		code = exit.ExitCode()
	}
	if len(reports) == 1 && reports[0].Seed == s.Seed {
		o.report = reports[0]
	}
	o.Seed, o.Neighbour = s.Seed, s.Neighbour
	switch {
	case errors.Is(end, errBudget):
		o.kind, o.Failure = failedHang, end.Error()
	case code == sys.ExitCodeDeadlineExceeded, code == sys.ExitCodeContextCanceled:
		o.kind, o.Failure = failedHang, "hang: the limit of real time is reached"
	case end != nil && code == 0 && !isExit(end):
		o.kind, o.Failure = failedGuest, "the guest trapped: "+end.Error()
	case wrong != nil:
		o.kind, o.Failure = failedGuest, wrong.Error()
	case o.failed():
		o.kind = failedCheck
	case code != 0 || len(reports) != 1:
		o.kind, o.Failure = diagnose(o.output, fmt.Sprintf("exit code %d, %d reports", code, len(reports)))
	}
}

func isExit(err error) bool {
	return errors.As(err, new(*sys.ExitError))
}
