package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// httpFleet is servers on real files that talk HTTP on loopback, through
// connections that the nemesis may cut.
type httpFleet struct {
	run    *soakRun
	root   string
	mu     sync.Mutex
	places map[string]*httpPlace // by name
	cuts   map[memoryLink]int
	most   time.Duration // delay of a write
}

// httpPlace is a server's address and directory.
type httpPlace struct {
	name string
	host *httptest.Server
	life atomic.Pointer[httpLife] // nil while it is down
}

type httpLife struct {
	server    Server
	transport *HTTPTransporter
	handler   http.Handler
	disk      *mortalFS
}

// ServeHTTP is http.Handler's; who is down drops the connection.
func (p *httpPlace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	life := p.life.Load()
	if life == nil {
		panic(http.ErrAbortHandler)
	}
	life.handler.ServeHTTP(w, r)
}

func newHTTPFleet(r *soakRun, servers int, root string) *httpFleet {
	f := &httpFleet{run: r, root: root, places: map[string]*httpPlace{}, cuts: map[memoryLink]int{}}
	for range servers {
		f.add()
	}
	return f
}

func (f *httpFleet) place(name string) *httpPlace {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.places[name]
}

func (f *httpFleet) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.places))
}

func (f *httpFleet) server(name string) Server {
	if life := f.place(name).life.Load(); life != nil {
		return life.server
	}
	return nil
}

func (f *httpFleet) add() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &httpPlace{name: fmt.Sprint("h", len(f.places)+1)}
	p.host = httptest.NewServer(p)
	f.places[p.name] = p
	return p.name
}

func (f *httpFleet) address(name string) string { return f.place(name).host.URL }

func (f *httpFleet) start(name string) error {
	p := f.place(name)
	life := &httpLife{transport: NewHTTPTransporter("/raft", f.run.election), disk: &mortalFS{fs: vfs.OS()}}
	life.transport.Transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return f.dial(ctx, name, network, address)
	}
	store := f.run.newStore(name)
	s, err := NewServer(name, filepath.Join(f.root, name), life.transport, store, store, p.host.URL,
		WithLogger(slog.New(slog.DiscardHandler)), WithElectionTimeout(f.run.election), WithHeartbeatInterval(f.run.heartbeat),
		WithRegistry(f.run.registry), WithMaxSegmentBytes(1<<20), f.run.trigger(), withFileSystem(life.disk))
	if err != nil {
		return err
	}
	life.server, life.handler = s, life.transport.Handler(s)
	f.run.watch.listen(name, s)
	if err := s.Init(); err != nil {
		return err
	}
	f.run.watch.initialized(name, s)
	p.life.Store(life)
	return s.Start()
}

// crash kills a server: what it has written stays, be it half of something.
func (f *httpFleet) crash(name string) {
	if life := f.place(name).life.Swap(nil); life != nil {
		life.disk.dead.Store(true)
		_ = life.transport.Close()
		life.server.Stop()
		_ = life.transport.Close()
	}
}

func (f *httpFleet) wipe(name string) {
	f.run.watch.wiped(name)
	for _, part := range []string{"log", "conf", "snapshot", "state"} {
		if err := os.RemoveAll(filepath.Join(f.root, name, part)); err != nil {
			f.run.violated("wiping %s: %v", name, err)
		}
	}
}

func (f *httpFleet) close() {
	for _, name := range f.names() {
		p := f.place(name)
		if life := p.life.Swap(nil); life != nil {
			life.server.Stop()
			_ = life.transport.Close()
		}
		p.host.CloseClientConnections()
		p.host.Close()
	}
}

func (f *httpFleet) bootstrap(ctx context.Context) error {
	names := f.names()
	for _, name := range names {
		if err := f.start(name); err != nil {
			return err
		}
		for _, peer := range names {
			if err := f.server(name).AddPeer(peer, f.address(peer)); err != nil {
				return err
			}
		}
	}
	_, err := f.server(names[0]).DoContext(ctx, &DefaultJoinCommand{Name: names[0], ConnectionString: f.address(names[0])})
	return err
}

func (f *httpFleet) block(from, to string) { f.change(from, to, 1) }

func (f *httpFleet) unblock(from, to string) { f.change(from, to, -1) }

func (f *httpFleet) change(from, to string, by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cuts[memoryLink{from, to}] += by
}

func (f *httpFleet) isCut(from, to string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cuts[memoryLink{from, to}] > 0
}

func (f *httpFleet) delay(_, most time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.most = most
}

var errSoakCut = errors.New("soak: the link is cut")

// dial connects a server to another one.
func (f *httpFleet) dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	to := ""
	for _, name := range f.names() {
		if f.place(name).host.Listener.Addr().String() == address {
			to = name
		}
	}
	if f.isCut(from, to) || f.isCut(to, from) {
		return nil, errSoakCut
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &fragileConn{Conn: conn, fleet: f, from: from, to: to}, nil
}

// fragileConn is a connection on a link that may be cut: what is sent meanwhile
// is lost and nobody is told, as with a half-open connection. When the link is
// whole again the connection turns out to be broken.
type fragileConn struct {
	net.Conn
	fleet    *httpFleet
	from, to string
	broken   atomic.Bool
}

// Write is net.Conn's.
func (c *fragileConn) Write(b []byte) (int, error) {
	c.fleet.mu.Lock()
	delay := c.fleet.most
	c.fleet.mu.Unlock()
	if delay > memoryMaxDelay {
		<-time.After(delay / 2)
	}
	if c.fleet.isCut(c.from, c.to) {
		c.broken.Store(true)
		return len(b), nil
	}
	if c.broken.Load() {
		_ = c.Close()
		return 0, errSoakCut
	}
	return c.Conn.Write(b)
}

// Read is net.Conn's.
func (c *fragileConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err == nil && c.fleet.isCut(c.to, c.from) {
			c.broken.Store(true)
			continue
		}
		if err == nil && c.broken.Load() {
			_ = c.Close()
			return 0, errSoakCut
		}
		return n, err
	}
}

// mortalFS is a file system that a process uses until it is dead.
type mortalFS struct {
	fs   vfs.FS
	dead atomic.Bool
}

func (m *mortalFS) alive() error {
	if m.dead.Load() {
		return vfs.ErrCrashed
	}
	return nil
}

// OpenFile is vfs.FS's.
func (m *mortalFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	file, err := m.fs.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &mortalFile{file, m}, nil
}

// Mkdir is vfs.FS's.
func (m *mortalFS) Mkdir(name string, perm fs.FileMode) error {
	return unless(m.alive(), func() error { return m.fs.Mkdir(name, perm) })
}

// Rename is vfs.FS's.
func (m *mortalFS) Rename(from, to string) error {
	return unless(m.alive(), func() error { return m.fs.Rename(from, to) })
}

// Remove is vfs.FS's.
func (m *mortalFS) Remove(name string) error {
	return unless(m.alive(), func() error { return m.fs.Remove(name) })
}

// ReadDir is vfs.FS's.
func (m *mortalFS) ReadDir(name string) ([]string, error) { return m.fs.ReadDir(name) }

// Stat is vfs.FS's.
func (m *mortalFS) Stat(name string) (fs.FileInfo, error) { return m.fs.Stat(name) }

// SyncDir is vfs.FS's.
func (m *mortalFS) SyncDir(name string) error {
	return unless(m.alive(), func() error { return m.fs.SyncDir(name) })
}

// Lock is vfs.FS's.
func (m *mortalFS) Lock(name string) (io.Closer, error) { return m.fs.Lock(name) }

func unless(err error, do func() error) error {
	if err != nil {
		return err
	}
	return do()
}

type mortalFile struct {
	vfs.File
	fs *mortalFS
}

// WriteAt is vfs.File's.
func (f *mortalFile) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.fs.alive(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, offset)
}

// Truncate is vfs.File's.
func (f *mortalFile) Truncate(size int64) error {
	return unless(f.fs.alive(), func() error { return f.File.Truncate(size) })
}

// Sync is vfs.File's.
func (f *mortalFile) Sync() error {
	return unless(f.fs.alive(), f.File.Sync)
}
