package raft_test

import (
	"strings"
	"testing"
)

// bites shows for every rule a source that breaks it, and beside it the nearest
// one that does not. The sources need not compile, only parse.
var bites = []struct {
	rule   string
	path   string
	source string
	want   string // part of the only message, "" for none
}{
	{"file length", "log.go", "package raft\n" + strings.Repeat("//\n", 600), "601 lines"},
	{"file length", "log_test.go", "package raft\n" + strings.Repeat("//\n", 600), "601 lines"},
	{"file length", "cmd/raftd/main.go", "package main\n" + strings.Repeat("//\n", 600), "601 lines"},
	{"file length", "log.go", "package raft\n" + strings.Repeat("//\n", 599), ""},
	{"file length", "protobuf/raft.pb.go", "package protobuf\n" + strings.Repeat("//\n", 600), ""},

	{"function length", "log.go", "package raft\nfunc f() {" + strings.Repeat("\n", 70) + "}", "f has 71 lines"},
	{"function length", "log.go", "package raft\nvar f = func() {" + strings.Repeat("\n", 70) + "}", "a function literal has 71 lines"},
	{"function length", "log.go", "package raft\nfunc f() {" + strings.Repeat("\n", 69) + "}", ""},

	{"rule purity", "replica.go", `package raft; import "time"`, "imports time"},
	{"rule purity", "history.go", `package raft; import "fmt"`, "imports fmt"},
	{"rule purity", "election.go", `package raft; func f() { go f() }`, "starts a goroutine"},
	{"rule purity", "leadership.go", `package raft; func f() { select {} }`, "uses select"},
	{"rule purity", "progress.go", `package raft; type t chan int`, "channel type"},
	{"rule purity", "configuration.go", `package raft; func f(t t) { <-t.c }`, "receives"},
	{"rule purity", "configuration.go", `package raft; func f(t t) { t.c <- 1 }`, "sends"},
	{"rule purity", "replica.go", `package raft; var now = time.Now`, "uses time.Now"},
	{"rule purity", "replica.go", `package raft; func f() { println() }`, "prints"},
	{"rule purity", "replica.go", `package raft; import "slices"; func f(log view) { log.termAt(1); slices.Sort(nil) }`, ""},
	{"rule purity", "event_loop.go", `package raft; import "time"`, ""},
	{"rule purity", "replica_test.go", `package raft; import "testing"`, ""},

	{"import direction", "internal/wal/log.go", `package wal; import "github.com/goraft/raft"`, "internal/wal imports"},
	{"import direction", "internal/wal/log.go", `package wal; import "github.com/goraft/raft/protobuf"`, "internal/wal imports"},
	{"import direction", "internal/wal/log_test.go", `package wal; import "github.com/goraft/raft/protobuf"`, "internal/wal imports"},
	{"import direction", "internal/vfs/os.go", `package vfs; import "github.com/goraft/raft/internal/wal"`, "internal/vfs imports"},
	{"import direction", "protobuf/wire.go", `package protobuf; import "github.com/goraft/raft/internal/wal"`, "protobuf imports"},
	{"import direction", "server.go", `package raft; import "github.com/goraft/raft/cmd/raftd"`, ". imports"},
	{"import direction", "internal/new/new.go", `package new; import "github.com/goraft/raft/internal/vfs"`, "internal/new imports"},
	{"import direction", "server.go", `package raft; import "github.com/goraft/raft/internal/wal"`, ""},
	{"import direction", "server_test.go", `package raft_test; import "github.com/goraft/raft"`, ""},
	{"import direction", "internal/wal/log_test.go", `package wal_test; import "github.com/goraft/raft/internal/wal"`, ""},
	{"import direction", "cmd/raftd/main.go", `package main; import "github.com/goraft/raft"`, ""},
	{"import direction", "simulation/run.go", `package simulation; import "github.com/goraft/raft"`, ""},

	{"dot import", "server_test.go", `package raft_test; import . "github.com/goraft/raft"`, "under no name"},
	{"dot import", "server_test.go", `package raft_test; import _ "github.com/goraft/raft"`, ""},

	{"routing", "server.go", `package raft; import "github.com/gorilla/mux"`, "imports github.com/gorilla/mux"},
	{"routing", "http_transporter.go", `package raft; import "github.com/gorilla/mux"`, ""},
	{"routing", "cmd/raftd/server.go", `package main; import "github.com/gorilla/mux"`, ""},

	{"protobuf", "server.go", `package raft; import "github.com/golang/protobuf/proto"`, "imports github.com/golang/protobuf/proto"},
	{"protobuf", "peer.go", `package raft; import "google.golang.org/protobuf/proto"`, "imports google.golang.org/protobuf/proto"},
	{"protobuf", "internal/wal/log.go", `package wal; import "google.golang.org/protobuf/proto"`, "imports google.golang.org/protobuf/proto"},
	{"protobuf", "request_vote.go", `package raft; import "github.com/golang/protobuf/proto"`, ""},
	{"protobuf", "codec_snapshot.go", `package raft; import "github.com/golang/protobuf/proto"`, ""},
	{"protobuf", "configuration_codec.go", `package raft; import "google.golang.org/protobuf/proto"`, ""},
	{"protobuf", "protobuf/wire.go", `package protobuf; import "google.golang.org/protobuf/encoding/protowire"`, ""},

	{"test helper", "test_utils.go", `package raft; import "testing"`, "imports testing"},
	{"test helper", "cluster.go", `package raft; import "github.com/stretchr/testify/require"`, "imports github.com/stretchr/testify"},
	{"test helper", "internal/vfs/memory.go", `package vfs; import "testing/synctest"`, "imports testing/synctest"},
	{"test helper", "server_test.go", `package raft; import "github.com/stretchr/testify/require"`, ""},

	{"doc comment", "server.go", `package raft; func Do() {}`, "Do has no doc comment"},
	{"doc comment", "server.go", `package raft; func (s *Server) Do() {}`, "Do has no doc comment"},
	{"doc comment", "inbox.go", `package raft; func (b *Box[T]) Take() {}`, "Take has no doc comment"},
	{"doc comment", "server.go", `package raft; type Server struct{}`, "Server has no doc comment"},
	{"doc comment", "server.go", "package raft\n// Several.\ntype (\nServer struct{}\n)", "Server has no doc comment"},
	{"doc comment", "errors.go", `package raft; var ErrLost, errOther error`, "ErrLost has no doc comment"},
	{"doc comment", "internal/vfs/os.go", `package vfs; const Size = 1`, "Size has no doc comment"},
	{"doc comment", "cmd/raftd/main.go", `package main; type Store struct{}`, "Store has no doc comment"},
	{"doc comment", "server.go", "package raft\n// Events.\nconst (\nA = 1\nB = 2\n)\n// T is.\ntype T struct { F int }\nfunc (s *server) Do() {}\nfunc f() {}", ""},
	{"doc comment", "server_test.go", `package raft; func TestX() {}`, ""},
	{"doc comment", "protobuf/raft.pb.go", `package protobuf; type X struct{}`, ""},

	{"goroutine", "peer.go", `package raft; func f() { go f() }`, "starts a goroutine"},
	{"goroutine", "internal/wal/log.go", `package wal; func f() { go f() }`, "starts a goroutine"},
	{"goroutine", "internal/wal/tasks.go", `package wal; func f() { go f() }`, "starts a goroutine"},
	{"goroutine", "peer.go", `package raft; import "sync"; type t struct { sync.WaitGroup }`, "sync.WaitGroup starts goroutines"},
	{"goroutine", "peer.go", `package raft; import "time"; var t = time.AfterFunc`, "time.AfterFunc starts goroutines"},
	{"goroutine", "peer.go", `package raft; import c "context"; var t = c.AfterFunc`, "context.AfterFunc starts goroutines"},
	{"goroutine", "http_stream.go", `package raft; import "context"; var t = context.AfterFunc`, ""},
	{"goroutine", "leader.go", `package raft; import "time"; var t = time.AfterFunc`, ""},
	{"goroutine", "tasks.go", `package raft; import "sync"; type t struct { sync.WaitGroup }; func f() { go f() }`, ""},
	{"goroutine", "peer_test.go", `package raft; func f() { go f() }`, ""},
	{"goroutine", "cmd/raftd/main.go", `package main; func f() { go f() }`, ""},

	{"channel", "status.go", `package raft; type t chan int`, "channel type"},
	{"channel", "log.go", `package raft; func f() { select {} }`, "uses select"},
	{"channel", "options.go", `package raft; func f(t t) { <-t.Done() }`, "receives"},
	{"channel", "event_loop.go", `package raft; func f(c chan int) { c <- 1 }`, ""},
	{"channel", "http_stream.go", `package raft; func f(c chan int) { <-c }`, ""},

	{"file system", "snapshot.go", `package raft; import "os"; var f = os.Rename`, "calls os.Rename"},
	{"file system", "snapshot.go", `package raft; import system "os"; var f = system.ReadFile`, "calls system.ReadFile"},
	{"file system", "internal/wal/segment.go", `package wal; import "os"; var f = os.OpenFile`, "calls os.OpenFile"},
	{"file system", "internal/wal/segment.go", `package wal; import "path/filepath"; var f = filepath.Glob`, "calls filepath.Glob"},
	{"file system", "internal/wal/segment.go", `package wal; import "golang.org/x/sys/unix"`, "imports golang.org/x/sys/unix"},
	{"file system", "snapshot.go", `package raft; import "os"; var d = os.DirFS("x")`, "calls os.DirFS"},
	{"file system", "snapshot.go", `package raft; import "os"; var r *os.Root`, "calls os.Root"},
	{"file system", "snapshot.go", `package raft; import "os/exec"`, "imports os/exec"},
	{"file system", "snapshot.go", `package raft; import "syscall"`, "imports syscall"},
	{"file system", "http_handler.go", `package raft; import "net/http"; var d = http.Dir("x")`, "calls http.Dir"},
	{"file system", "http_transporter.go", `package raft; import "crypto/tls"; var f = tls.LoadX509KeyPair`, "calls tls.LoadX509KeyPair"},
	{"file system", "snapshot.go", "package raft\n\n//go:linkname open os.open\nfunc open()\n", "says //go:linkname open os.open"},
	{"file system", "internal/wal/segment.go", `package wal; import "os"; var f = os.O_RDWR`, ""},
	{"file system", "snapshot.go", `package raft; import "os"; var f = os.ErrNotExist`, ""},
	{"file system", "internal/vfs/os.go", `package vfs; import "os"; var f = os.OpenFile`, ""},
	{"file system", "snapshot_test.go", `package raft; import "os"; var f = os.ReadFile`, ""},
	{"file system", "cmd/raftd/main.go", `package main; import "os"; var f = os.MkdirAll`, ""},

	{"sleep", "server_test.go", `package raft; import "time"; func f() { time.Sleep(1) }`, "calls time.Sleep"},
	{"sleep", "internal/wal/log.go", `package wal; import "time"; func f() { time.Sleep(1) }`, "calls time.Sleep"},
	{"sleep", "server_test.go", `package raft; import "time"; var d = time.Second`, ""},
	{"sleep", "cmd/raftd/e2e_test.go", `package main; import "time"; func f() { time.Sleep(1) }`, ""},

	{"open end", "server.go", "package raft // TO" + "DO: later", "says TO" + "DO"},
	{"open end", "cmd/raftd/main_test.go", "package main // FIX" + "ME", "says FIX" + "ME"},
	{"open end", "server.go", "package raft // a todolist, xxxx", ""},

	{"panic", "peer.go", `package raft; func f() { panic(1) }`, "panics"},
	{"panic", "internal/wal/command.go", `package wal; func f() { panic(1) }`, "panics"},
	{"panic", "peer.go", `package raft; import "os"; func f() { os.Exit(1) }`, "ends the program by Exit"},
	{"panic", "peer.go", `package raft; import "log"; func f() { log.Fatalf("") }`, "ends the program by Fatalf"},
	{"panic", "command.go", `package raft; func f() { panic(1) }`, ""},
	{"panic", "server.go", `package raft; func f() { panic(1) }`, ""},
	{"panic", "peer_test.go", `package raft; func f() { panic(1) }`, ""},
}

// TestRulesBite runs every rule on sources that break it.
func TestRulesBite(t *testing.T) {
	bitten := make(map[string]bool)
	for _, bite := range bites {
		module := "."
		for _, nested := range []string{"cmd", "simulation"} {
			if strings.HasPrefix(bite.path, nested+"/") {
				module = nested
			}
		}
		f, err := parseGoFile(bite.path, module, bite.source)
		if err != nil {
			t.Fatal(err)
		}
		r := ruleNamed(t, bite.rule)
		messages := r.run(f)
		whole := strings.Join(messages, "\n")
		switch {
		case bite.want == "" && len(messages) > 0:
			t.Errorf("%s on %q: found %s, want nothing", bite.rule, bite.source, whole)
		case bite.want != "" && (len(messages) == 0 || !strings.Contains(whole, bite.want) || !strings.Contains(whole, r.reason)):
			t.Errorf("%s on %q: found %q, want %q and the reason", bite.rule, bite.source, whole, bite.want)
		}
		bitten[bite.rule] = bitten[bite.rule] || bite.want != ""
	}
	for _, r := range rules {
		if !bitten[r.name] {
			t.Errorf("nothing shows that the rule %q bites", r.name)
		}
	}
}

func ruleNamed(t *testing.T, name string) *rule {
	t.Helper()
	for _, r := range rules {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("no rule is named %q", name)
	return nil
}

// TestMutexLimitBites counts locks over several files.
func TestMutexLimitBites(t *testing.T) {
	parse := func(name, text string) *goFile {
		f, err := parseGoFile(name, ".", text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	files := []*goFile{
		parse("inbox.go", `package raft; import "sync"; type a struct { mu struct { sync.Mutex; n int } }; type b struct { sync.RWMutex }`),
		parse("log.go", `package raft; import "sync"; type c struct { mu *sync.Mutex }; var d sync.Mutex`),
		parse("peer.go", `package raft; import "sync"; type Peer struct { sync.RWMutex }`),
		parse("log_test.go", `package raft; import "sync"; var e sync.Mutex`),
	}
	if messages := checkMutexes(files); len(messages) > 0 {
		t.Errorf("four mutexes and goraft's Peer: found %q, want nothing", messages)
	}
	files = append(files, parse("server.go", `package raft; import "sync"; var e sync.Mutex`))
	if messages := checkMutexes(files); len(messages) != 1 || !strings.Contains(messages[0], "5 mutexes") {
		t.Errorf("five mutexes: found %q, want one message", messages)
	}
}

// TestModuleRulesBite gives go.mod files that break the rules.
func TestModuleRulesBite(t *testing.T) {
	const good = "module github.com/goraft/raft\n\nrequire (\n\tgithub.com/gorilla/mux v1.8.1\n\tother.org/x v1.0.0 // indirect\n)\n"
	const nested = "require github.com/goraft/raft v0.0.0\n"
	for _, bite := range []struct {
		dir, text, work, want string
	}{
		{".", good, "use .", ""},
		{".", good + "require other.org/y v1.0.0\n", "use .", "requires other.org/y"},
		{".", good + "replace other.org/x => ../x\n", "use .", "replace other.org/x"},
		{".", good + "tool other.org/x/cmd\n", "use .", "tool other.org/x/cmd"},
		{".", good, "use ./cmd", "use of . is false"},
		{"cmd", nested + "replace github.com/goraft/raft => ../\n", "use (\n\t./cmd\n)\n", ""},
		{"cmd", nested, "use ./cmd", "wants replace"},
		{"cmd", nested + "replace github.com/goraft/raft => ../../\n", "use ./cmd", "wants replace"},
		{"examples/kv", nested + "replace github.com/goraft/raft => ../..\n", "use ./examples/kv", ""},
		{"bench/peers/etcd", "", "use .", ""},
		{"bench/peers/etcd", "", "use ./bench/peers/etcd", "use of bench/peers/etcd is true"},
	} {
		messages := checkModules(map[string]string{bite.dir: bite.text}, bite.work)
		whole := strings.Join(messages, "\n")
		if bite.want == "" && whole != "" || !strings.Contains(whole, bite.want) {
			t.Errorf("%s/go.mod %q with go.work %q: found %q, want %q", bite.dir, bite.text, bite.work, whole, bite.want)
		}
	}
}
