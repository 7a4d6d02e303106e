//go:build unix

package storage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
)

// The variables of the environment that make another process of the test binary a
// child: where its files are, and its seed; without one it only opens them.
const (
	childDirEnv  = "RAFT_TEST_STORAGE_DIR"
	childSeedEnv = "RAFT_TEST_STORAGE_SEED"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(childDirEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	var err error
	if seed := os.Getenv(childSeedEnv); seed == "" {
		if _, _, err = openDirectory(dir, wal.Options{}); err == nil {
			_, err = os.Stdin.Read(make([]byte, 1))
		}
	} else {
		var n uint64
		if n, err = strconv.ParseUint(seed, 10, 64); err == nil {
			err = runChild(dir, seeded(n))
		}
	}
	fmt.Fprintln(os.Stderr, "failed: ", err)
	os.Exit(1)
}

func openDirectory(dir string, o wal.Options) (*wal.Store, *snapshot.Store, error) {
	o.FS, o.Dir, o.MaxSegmentBytes = vfs.OS(), filepath.Join(dir, "log"), 16<<10
	s, err := wal.Open(o)
	if err != nil {
		return nil, nil, err
	}
	files, err := snapshot.Open(vfs.OS(), filepath.Join(dir, "snapshot"))
	return s, files, err
}

// child writes until it is killed, and says of each call that it begins, and that it
// has returned.
type child struct {
	rng    *rand.Rand
	store  *wal.Store
	files  *snapshot.Store
	world  world
	term   uint64
	commit uint64
	queue  []call // what must follow
}

func runChild(dir string, rng *rand.Rand) error {
	log := &shown{world{first: 1}}
	s, files, err := openDirectory(dir, wal.Options{Visitor: log})
	if err != nil {
		return err
	}
	c := &child{rng: rng, store: s, files: files, world: log.world}
	c.world.first, _ = s.Bounds()
	c.world.snapshots = map[snapshot.Label][]byte{}
	for _, l := range files.Labels() {
		c.world.snapshots[l] = nil
	}
	c.commit, c.term = s.CommitIndex(), s.HardState().Term
	if w := &c.world; len(w.records) > 0 {
		c.term = max(c.term, w.term(w.last()))
	}
	c.join()
	fmt.Println("open")
	for {
		for len(c.queue) == 0 {
			c.plan()
		}
		next := c.queue[0]
		c.queue = c.queue[1:]
		fmt.Println("begin", next)
		if err := next.do(c.store, c.files); err != nil {
			return err
		}
		first, _ := c.store.Bounds()
		fmt.Println("done", first)
		next.happen(&c.world, first)
	}
}

// join is what a server does when it starts; see replicaUser.
func (c *child) join() {
	labels := c.world.labels()
	if len(labels) == 0 {
		return
	}
	newest := labels[0]
	c.term, c.commit = max(c.term, newest.Term), max(c.commit, newest.Index)
	if newest.Index >= c.world.first && !c.world.holds(newest) {
		c.goOnBehind(newest.Index)
	}
}

func (c *child) goOnBehind(index uint64) {
	c.queue = append(c.queue, call{verb: "reset", index: index + 1, commit: index}, call{verb: "compact", index: index + 1})
	for _, l := range c.world.labels() {
		if l.Index < index {
			c.queue = append(c.queue, call{verb: "remove", index: l.Index, term: l.Term})
		}
	}
}

// plan decides what comes next.
func (c *child) plan() {
	w, rng := &c.world, c.rng
	c.term++
	from := max(c.commit+1, w.first)
	next := call{verb: "append", index: w.last() + 1, term: c.term, count: 1 + rng.Uint64N(8), commit: c.commit}
	switch k := rng.IntN(20); {
	case k < 2 && from <= w.last():
		next.index = from + rng.Uint64N(w.last()-from+1)
	case k < 3 && from <= w.last():
		next.verb, next.index = "truncate", from+rng.Uint64N(w.last()-from+1)
	case k < 6:
		next.verb = "vote"
	case k < 7:
		next.verb = "seal"
	case k < 10 && from <= w.last():
		c.commit = from + rng.Uint64N(w.last()-from+1)
		next.verb, next.commit = "seal", c.commit
	case k < 12:
		c.planSnapshot()
		return
	case k < 13:
		c.commit = max(c.commit, w.last()) + 1 + rng.Uint64N(5)
		c.queue = append(c.queue, call{verb: "receive", index: c.commit, term: c.term})
		c.goOnBehind(c.commit)
		return
	}
	c.queue = append(c.queue, next)
}

// planSnapshot has a snapshot taken, and the log cut to the one before it.
func (c *child) planSnapshot() {
	w, labels := &c.world, c.world.labels()
	if c.commit < w.first || len(labels) > 0 && c.commit <= labels[0].Index {
		return
	}
	c.queue = append(c.queue, call{verb: "take", index: c.commit, term: w.term(c.commit), commit: c.commit})
	if len(labels) == 0 || labels[0].Index+1 < w.first {
		return
	}
	c.queue = append(c.queue, call{verb: "compact", index: labels[0].Index + 1})
	for _, l := range labels[1:] {
		c.queue = append(c.queue, call{verb: "remove", index: l.Index, term: l.Term})
	}
}

// parent starts children in one directory, kills them, and knows what each of them
// was promised.
type parent struct {
	testing.TB
	dir     string
	rng     *rand.Rand
	world   world
	flying  *call // begun, and not known to have returned
	calls   int
	unclear int // how often a call was cut short
}

// start runs a child.
func (p *parent) start(seed string) (*exec.Cmd, *bufio.Reader) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDirEnv+"="+p.dir, childSeedEnv+"="+seed)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(p, err)
	_, err = cmd.StdinPipe() // it would end with its input
	must(p, err)
	must(p, cmd.Start())
	return cmd, bufio.NewReader(out)
}

// kill ends a child, after at most some time, and takes down what it had said.
func (p *parent) kill(cmd *exec.Cmd, lines *bufio.Reader, within time.Duration) {
	<-time.After(time.Duration(p.rng.Int64N(int64(within))))
	must(p, cmd.Process.Kill())
	for p.listen(lines) {
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		p.Fatal("the child ended by itself: ", err)
	}
}

// round lets a child say some number of words, and kills it, at once or a moment
// later; then, perhaps, others while they repair what it has left.
func (p *parent) round(words int) {
	cmd, lines := p.start(strconv.FormatUint(p.rng.Uint64(), 10))
	for range words {
		p.listen(lines)
	}
	p.kill(cmd, lines, []time.Duration{1, 3 * time.Millisecond}[p.rng.IntN(2)])
	for p.rng.IntN(2) == 0 {
		cmd, lines := p.start("")
		p.kill(cmd, lines, 10*time.Millisecond)
	}
}

// listen takes a word of the child, and reports whether there was one.
func (p *parent) listen(lines *bufio.Reader) bool {
	line, err := lines.ReadString('\n')
	if errors.Is(err, io.EOF) {
		return false
	}
	must(p, err)
	word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	switch word {
	case "open":
	case "begin":
		c, err := parseCall(rest)
		must(p, err)
		p.flying = &c
	case "done":
		first, err := strconv.ParseUint(rest, 10, 64)
		must(p, err)
		p.flying.happen(&p.world, first)
		p.flying = nil
		p.calls++
	default:
		p.Fatal("the child says: ", line)
	}
	return true
}

// check opens the directory: it must hold exactly what was promised, and of the call
// that was cut short nothing or all; of a compaction any part.
func (p *parent) check() {
	s, files, err := openDirectory(p.dir, wal.Options{})
	must(p, err)
	before := p.world.clone()
	first, _ := s.Bounds()
	if p.flying != nil {
		p.unclear++
		if p.flying.verb == "compact" {
			first = min(first, p.flying.index)
		}
		p.flying.happen(&p.world, first)
	}
	if found := p.world.differs(s, files, true); found != "" {
		if p.world = before; p.world.differs(s, files, true) != "" {
			p.Fatalf("after %d calls, in %v: %s", p.calls, p.flying, found)
		}
	}
	if gap := p.world.gap(s.CommitIndex()); gap != "" {
		p.Fatalf("after %d calls: %s", p.calls, gap)
	}
	for _, sub := range []string{"log", "snapshot"} {
		if left := temporaries(p, vfs.OS(), filepath.Join(p.dir, sub)); len(left) > 0 {
			p.Fatal("not swept: ", left)
		}
	}
	p.flying = nil
	must(p, s.Close())
}

// A process that is killed on a real file system has lost nothing that it was
// promised, and left nothing that it had not written.
func TestFault094_KilledProcessKeepsItsPromises(t *testing.T) {
	p := &parent{TB: t, dir: t.TempDir(), rng: seeded(uint64(time.Now().UnixNano()))}
	p.world = world{first: 1, snapshots: map[snapshot.Label][]byte{}}
	rounds := volume(2, 30, 1000)
	for range rounds {
		p.round(p.rng.IntN(300))
		p.check()
	}
	t.Logf("%d kills, %d calls promised, %d cut short", rounds, p.calls, p.unclear)
}
