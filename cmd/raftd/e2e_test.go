package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// e2eClients is how many requests the end-to-end tests keep under way.
const e2eClients = 12

// file is a file to store, by its path below GOROOT/src.
type file struct {
	name string
	path string // of its key, escaped
}

// sourceFiles lists the regular files of the Go tree that runs the test.
func sourceFiles(t *testing.T) (root string, files []file) {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	root = filepath.Join(strings.TrimSpace(string(out)), "src")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		u := url.URL{Path: keyPrefix + filepath.ToSlash(name)}
		files = append(files, file{name: name, path: u.EscapedPath()})
		return nil
	})
	must(t, err)
	return root, files
}

// cluster is three processes and a client of theirs.
type cluster struct {
	*client
	t         *testing.T
	binary    string
	processes []*process
}

// startCluster starts a server that begins a cluster and two that join it.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	binary, dir, ports := buildRaftd(t), t.TempDir(), freePorts(t, 3)
	c := &cluster{client: newClient(ports), t: t, binary: binary}
	for i, port := range ports {
		args := []string{"-v", "-p", strconv.Itoa(port)}
		if i > 0 {
			args = append(args, "-join", fmt.Sprintf("localhost:%d", ports[0]))
		}
		c.processes = append(c.processes, startProcess(t, binary, append(args, filepath.Join(dir, strconv.Itoa(i)))...))
	}
	c.lead()
	return c
}

// join starts one more server, which gets what the others have as a snapshot: they
// do not have the beginning of the log any more.
func (c *cluster) join() {
	c.t.Helper()
	begun := time.Now()
	for i := range c.bases {
		status, err := c.status(i)
		must(c.t, err)
		if status.FirstIndex == 1 || status.SnapshotIndex == 0 {
			c.t.Fatalf("server %d has not dropped any log: %+v", i, status)
		}
	}
	port := freePorts(c.t, 1)[0]
	contact := strings.TrimPrefix(c.bases[0], "http://")
	p := startProcess(c.t, c.binary, "-v", "-p", strconv.Itoa(port), "-join", contact, filepath.Join(c.t.TempDir(), "joined"))
	c.processes = append(c.processes, p)
	c.bases = append(c.bases, fmt.Sprintf("http://127.0.0.1:%d", port))
	c.lead()
	must(c.t, c.caughtUp(len(c.bases)))
	status, err := c.status(len(c.bases) - 1)
	must(c.t, err)
	if status.FirstIndex == 1 || status.SnapshotIndex == 0 {
		c.t.Errorf("the new server has the whole log: %+v", status)
	}
	c.t.Logf("a fourth server voted after %v, its log begins at %d", time.Since(begun).Round(time.Millisecond), status.FirstIndex)
}

// lead waits until there is a leader of all of them.
func (c *cluster) lead() {
	c.t.Helper()
	_, err := c.leader(len(c.bases))
	must(c.t, err)
}

// killLeader kills the process of the leader and starts it again.
func (c *cluster) killLeader() error {
	leader, err := c.leader(len(c.bases))
	if err != nil {
		return err
	}
	c.processes[leader].kill()
	c.t.Logf("killed the leader, server %d", leader)
	return c.processes[leader].start()
}

// each calls work for every file, from several goroutines, until one fails.
func each(files []file, work func(i int, f file) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range e2eClients {
		workers.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(files) {
					return
				}
				if err := work(i, files[i]); err != nil {
					err = fmt.Errorf("%s: %w", files[i].name, err)
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// store stores the files through all servers in turn, and kills the leader at a
// third and at two thirds of the way.
func (c *cluster) store(root string, files []file) {
	c.t.Helper()
	var size, retried, stored atomic.Int64
	kills := make(chan struct{}, 2)
	killed := make(chan error, 1)
	go func() {
		var errs []error
		for range kills {
			errs = append(errs, c.killLeader())
		}
		killed <- errors.Join(errs...)
	}()
	begun := time.Now()
	err := each(files, func(i int, f file) error {
		content, err := os.ReadFile(filepath.Join(root, f.name))
		if err != nil {
			return err
		}
		status, answer, retries, err := c.do(i%len(c.bases), http.MethodPut, f.path, content)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("PUT: %d %s", status, answer)
		}
		size.Add(int64(len(content)))
		retried.Add(int64(retries))
		if n := int(stored.Add(1)); n == len(files)/3 || n == 2*len(files)/3 {
			kills <- struct{}{}
		}
		return nil
	})
	close(kills)
	must(c.t, errors.Join(err, <-killed))
	took := time.Since(begun)
	c.t.Logf("stored %d files, %d bytes in %v (%.0f/s), %d requests tried again", len(files), size.Load(), took.Round(time.Millisecond), float64(len(files))/took.Seconds(), retried.Load())
}

// load keeps every client busy with writes, whatever becomes of them, until stop
// is called.
func (c *cluster) load() (stop func()) {
	var stopping atomic.Bool
	var workers sync.WaitGroup
	for worker := range e2eClients {
		workers.Go(func() {
			path := fmt.Sprintf("%sload/%d", keyPrefix, worker)
			for i := worker; !stopping.Load(); i++ {
				// The servers are being stopped: any answer and none will do.
				_, _, _ = c.once(http.MethodPut, c.bases[i%len(c.bases)]+path, []byte(path))
			}
		})
	}
	return func() {
		stopping.Store(true)
		workers.Wait()
	}
}

// check reads every file from each server and compares.
func (c *cluster) check(root string, files []file, query string) {
	c.t.Helper()
	begun := time.Now()
	var size, empty atomic.Int64
	err := each(files, func(_ int, f file) error {
		content, err := os.ReadFile(filepath.Join(root, f.name))
		if err != nil {
			return err
		}
		if len(content) == 0 {
			empty.Add(1)
		}
		for i, base := range c.bases {
			status, answer, _, err := c.do(i, http.MethodGet, f.path+query, nil)
			if err != nil {
				return err
			}
			if status != http.StatusOK || !bytes.Equal(answer, content) {
				return fmt.Errorf("GET from %s: status %d, %d bytes, want the %d of the file", base, status, len(answer), len(content))
			}
			size.Add(int64(len(answer)))
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	took := time.Since(begun)
	c.t.Logf("read %d files (%d empty) from each server with %q: %d bytes in %v (%.0f/s)", len(files), empty.Load(), query, size.Load(), took.Round(time.Millisecond), float64(len(c.bases)*len(files))/took.Seconds())
}

// TestEndToEnd stores the Go source tree in three processes while their leader
// is killed, reads it back from each, and again after all were killed.
func TestEndToEnd(t *testing.T) {
	skipWithoutE2E(t)
	root, files := sourceFiles(t)
	c := startCluster(t)
	c.store(root, files)
	c.lead()
	c.check(root, files, "")
	must(t, c.caughtUp(len(c.bases)))
	c.check(root, files, "?stale=1")
	if status, _, _, err := c.do(0, http.MethodGet, keyPrefix+"no/such/file", nil); status != http.StatusNotFound || err != nil {
		t.Errorf("an absent key: status %d, %v", status, err)
	}

	for _, p := range c.processes {
		p.kill()
	}
	begun := time.Now()
	for _, p := range c.processes {
		must(t, p.start())
	}
	c.lead()
	t.Logf("killed all three, served again after %v", time.Since(begun).Round(time.Millisecond))
	must(t, c.caughtUp(len(c.bases)))
	c.check(root, files, "?stale=1")

	c.join()
	c.check(root, files, "?stale=1")

	stop := c.load()
	defer stop()
	for i, p := range c.processes {
		took, err := p.terminate(syscall.SIGTERM, stopTimeouts*electionTimeout)
		if err != nil {
			t.Errorf("server %d, SIGTERM: %v", i, err)
		}
		t.Logf("server %d ended %v after SIGTERM", i, took.Round(time.Millisecond))
	}
}

// TestEndToEndAlone runs the three servers of one process, kills it, interrupts
// it, and finds its data each time.
func TestEndToEndAlone(t *testing.T) {
	skipWithoutE2E(t)
	ports := freePorts(t, 3)
	var list []string
	for _, port := range ports {
		list = append(list, strconv.Itoa(port))
	}
	c := newClient(ports)
	p := startProcess(t, buildRaftd(t), "-v", "-ports", strings.Join(list, ","), "-data", filepath.Join(t.TempDir(), "data"))
	keys := 0
	put := func(count int) {
		for range count {
			path := fmt.Sprintf("%s%d", keyPrefix, keys)
			if status, answer, _, err := c.do(keys%3, http.MethodPut, path, []byte(path)); status != http.StatusOK || err != nil {
				t.Fatalf("PUT %s: %d %s %v", path, status, answer, err)
			}
			keys++
		}
	}
	check := func() {
		t.Helper()
		for i := range keys {
			path := fmt.Sprintf("%s%d", keyPrefix, i)
			if status, answer, _, err := c.do(i%3, http.MethodGet, path, nil); status != http.StatusOK || string(answer) != path || err != nil {
				t.Fatalf("GET %s: %d %q %v", path, status, answer, err)
			}
		}
	}
	put(100)
	p.kill()
	must(t, p.start())
	check()
	put(100)
	took, err := p.terminate(os.Interrupt, stopTimeouts*electionTimeout)
	if err != nil {
		t.Fatalf("SIGINT: %v", err)
	}
	t.Logf("ended %v after SIGINT", took.Round(time.Millisecond))
	must(t, p.start())
	check()
	if !strings.Contains(p.output.String(), c.bases[2]) {
		t.Errorf("the output does not name %s:\n%s", c.bases[2], p.output)
	}
}
