// Static is a key-value store whose servers are given a list of all of them, in
// the manner of SeaweedFS's masters: the list is told by AddPeer after Start, on
// every server and at every start; one server joins itself; what is on disk is
// wiped by name unless it is to be resumed; a lone server that resumes shortens its
// first election.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goraft/raft"
)

// topology is the state that the servers share.
type topology struct {
	mu   sync.RWMutex
	data map[string]string
}

func (t *topology) set(key, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data[key] = value
}

// stateMachine saves the topology.
type stateMachine struct{ topo *topology }

// Save is raft.StateMachine's.
func (s stateMachine) Save() ([]byte, error) {
	s.topo.mu.RLock()
	defer s.topo.mu.RUnlock()
	return json.Marshal(s.topo.data)
}

// Recovery is raft.StateMachine's.
func (s stateMachine) Recovery(b []byte) error {
	data := map[string]string{}
	if err := json.Unmarshal(b, &data); err != nil {
		return err
	}
	s.topo.mu.Lock()
	defer s.topo.mu.Unlock()
	s.topo.data = data
	return nil
}

// setCommand stores a value under a key.
type setCommand struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// CommandName is raft.Command's.
func (c *setCommand) CommandName() string { return "set" }

// Apply asks the server what it is, as programs do for their logs.
func (c *setCommand) Apply(server raft.Server) (interface{}, error) {
	server.Context().(*topology).set(c.Key, c.Value)
	if server.State() == raft.Leader && server.Leader() != server.Name() {
		log.Println("another server leads by now:", server.Leader())
	}
	return nil, nil
}

// master is one server.
type master struct {
	self       string // its name and its address
	peers      []string
	raftServer raft.Server
	topo       *topology
}

func main() {
	self := flag.String("address", "127.0.0.1:9333", "host:port, the server's name too")
	list := flag.String("peers", "", "all servers, this one too, with commas between")
	resume := flag.Bool("resume", false, "go on with what is on disk")
	flag.Parse()
	raft.RegisterCommand(&setCommand{})
	m := &master{self: *self, peers: strings.Split(*list, ","), topo: &topology{data: map[string]string{}}}
	transporter := raft.NewHTTPTransporter("/cluster", 0)
	if err := m.startRaft(transporter, flag.Arg(0), *resume); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	transporter.Install(m.raftServer, mux)
	mux.HandleFunc("/state", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, m.raftServer.State()) })
	mux.HandleFunc("/voters", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, voters(m.raftServer)) })
	mux.HandleFunc("/leader", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, m.raftServer.Leader()) })
	mux.HandleFunc("GET /db", m.readAll)
	mux.HandleFunc("POST /db/{key}", m.write)
	mux.HandleFunc("POST /peer", m.servePeer)
	go m.findCluster()
	log.Fatal(http.ListenAndServe(m.self, mux))
}

func (m *master) startRaft(transporter raft.Transporter, dir string, resume bool) error {
	if !resume {
		for _, name := range []string{"log", "conf", "snapshot", "state"} {
			if err := os.RemoveAll(path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(path.Join(dir, "snapshot"), 0o700); err != nil {
		return err
	}
	server, err := raft.NewServer(m.self, dir, transporter, stateMachine{m.topo}, m.topo, "http://"+m.self)
	if err != nil {
		return err
	}
	m.raftServer = server
	server.SetHeartbeatInterval(50 * time.Millisecond)
	server.SetElectionTimeout(300 * time.Millisecond)
	m.watchLeader()
	if err := server.LoadSnapshot(); err != nil {
		return err
	}
	if resume && len(m.peers) == 1 {
		m.resumeFast()
	}
	if err := server.Start(); err != nil {
		return err
	}
	for _, peer := range m.peers {
		if err := server.AddPeer(peer, "http://"+peer); err != nil {
			return fmt.Errorf("adding %s: %w", peer, err)
		}
	}
	for name := range server.Peers() {
		if !slices.Contains(m.peers, name) {
			// Of a cluster that runs, it is for the leader to remove a member.
			if err := server.RemovePeer(name); err != nil && err != raft.NotLeaderError {
				return fmt.Errorf("removing %s: %w", name, err)
			}
		}
	}
	log.Println("current leader:", server.Leader())
	return nil
}

// resumeFast lets a lone server stand for election at once. Afterwards it waits as
// long as before.
func (m *master) resumeFast() {
	before := m.raftServer.ElectionTimeout()
	m.raftServer.SetElectionTimeout(time.Millisecond)
	m.raftServer.AddEventListener(raft.LeaderChangeEventType, func(raft.Event) {
		if m.raftServer.Leader() != "" {
			m.raftServer.SetElectionTimeout(before)
		}
	})
}

// watchLeader follows who leads: a new leader takes a snapshot of what it has.
func (m *master) watchLeader() {
	m.raftServer.AddEventListener(raft.LeaderChangeEventType, func(e raft.Event) {
		log.Printf("leader change: %v => %v", e.PrevValue(), e.Value())
		if m.raftServer.Leader() == m.raftServer.Name() {
			go func() {
				if err := m.raftServer.TakeSnapshot(); err != nil {
					log.Println("snapshot:", err)
				}
			}()
		}
	})
}

// findCluster has an empty server be taken in by the leader that the others know
// of, or else, if it is the first of the list, begin a cluster.
func (m *master) findCluster() {
	for m.raftServer.IsLogEmpty() && m.raftServer.Leader() == "" {
		for _, peer := range m.peers {
			leader, err := ask(http.Get("http://" + peer + "/leader"))
			if peer != m.self && err == nil && leader != "" {
				_, err := ask(http.Post("http://"+leader+"/peer", "text/plain", strings.NewReader(m.self)))
				log.Println("asked", leader, "to be taken in:", err)
			}
		}
		if m.peers[0] == m.self && m.raftServer.Leader() == "" {
			_, err := m.raftServer.Do(&raft.DefaultJoinCommand{Name: m.self, ConnectionString: "http://" + m.self})
			log.Println("joined itself:", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// voters counts the members that have a vote: one that has just joined has none
// until it has caught up. goraft had no such thing, so this asks for Status.
func voters(server raft.Server) (n int) {
	for _, member := range server.Status().Members {
		if member.Voter {
			n++
		}
	}
	return n
}

func ask(response *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, b)
	}
	return string(b), err
}

// servePeer adds a server that was wiped.
func (m *master) servePeer(w http.ResponseWriter, r *http.Request) {
	name, err := io.ReadAll(r.Body)
	if err == nil {
		err = m.raftServer.AddPeer(string(name), "http://"+string(name))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (m *master) readAll(w http.ResponseWriter, _ *http.Request) {
	b, err := stateMachine{m.topo}.Save()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(b)
}

func (m *master) write(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(r.Body)
	if err == nil {
		_, err = m.raftServer.Do(&setCommand{Key: r.PathValue("key"), Value: string(value)})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}
