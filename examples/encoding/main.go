// Encoding is a store whose commands have an encoding of their own, in the manner
// of influxdb 0.8 and rqlite: members join, leave and move by such commands too, a
// snapshot is taken when a request asks for it, and is loaded before the server
// starts.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/goraft/raft"
)

// config is the state of the cluster: context and state machine in one.
type config struct {
	mu     sync.RWMutex
	points map[string]string
	loaded int // how often a snapshot was restored
}

func (c *config) set(series, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.points[series] = value
}

// Save is raft.StateMachine's.
func (c *config) Save() ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return json.Marshal(c.points)
}

// Recovery is raft.StateMachine's.
func (c *config) Recovery(b []byte) error {
	points := map[string]string{}
	if err := json.Unmarshal(b, &points); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.points = points
	c.loaded++
	return nil
}

// raftServer is one server.
type raftServer struct {
	name      string
	address   string
	server    raft.Server
	mux       *http.ServeMux
	config    *config
	mu        sync.Mutex
	lastState string
}

func main() {
	name := flag.String("name", "", "the server's name")
	address := flag.String("address", "127.0.0.1:8090", "where to listen, and what others connect to")
	seed := flag.String("seed", "", "host:port of a server of the cluster to join, or to tell of a new address")
	flag.Parse()
	for _, command := range []raft.Command{&writePointCommand{}, &joinCommand{}, &forceLeaveCommand{}, &changeAddressCommand{}} {
		raft.RegisterCommand(command)
	}
	s := &raftServer{name: *name, address: *address, mux: http.NewServeMux(), config: &config{points: map[string]string{}}}
	if err := s.start(flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
	s.routes()
	go func() { log.Fatal(http.ListenAndServe(s.address, s.mux)) }()
	if err := s.findPlace(*seed); err != nil {
		log.Fatal(err)
	}
	select {}
}

// HandleFunc makes the server what raft.HTTPTransporter mounts its handlers on.
func (s *raftServer) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	s.mux.HandleFunc(pattern, handler)
}

func (s *raftServer) connectionString() string { return "http://" + s.address }

func (s *raftServer) start(path string) error {
	transporter := raft.NewHTTPTransporter("/raft", raft.DefaultElectionTimeout)
	server, err := raft.NewServer(s.name, path, transporter, s.config, s.config, s.connectionString())
	if err != nil {
		return err
	}
	s.server = server
	server.SetElectionTimeout(300 * time.Millisecond)
	if err := server.LoadSnapshot(); err != nil && !os.IsNotExist(err) {
		return err
	}
	server.AddEventListener(raft.StateChangeEventType, s.stateChanged)
	transporter.Install(server, s)
	return server.Start()
}

// stateChanged follows the server's state by the words of goraft.
func (s *raftServer) stateChanged(e raft.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Value() == "leader" {
		log.Printf("(raft:%s) selected as leader, after %v", s.server.Name(), e.PrevValue())
	}
	s.lastState = e.Value().(string)
}

// findPlace begins a cluster, joins one, or tells it that this server has moved.
func (s *raftServer) findPlace(seed string) error {
	switch {
	case s.server.IsLogEmpty() && seed == "":
		_, err := s.server.Do(&joinCommand{Name: s.name, ConnectionString: s.connectionString()})
		return err
	case s.server.IsLogEmpty():
		return s.tell(seed, "/cluster/join")
	case seed != "":
		return s.tell(seed, "/cluster/move")
	}
	return nil
}

// tell posts this server's name and address until somebody takes notice.
func (s *raftServer) tell(seed, path string) error {
	body, err := json.Marshal(map[string]string{"name": s.name, "connectionString": s.connectionString()})
	if err != nil {
		return err
	}
	for range 100 {
		response, err := http.Post("http://"+seed+path, "application/json", bytes.NewReader(body))
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s: nobody answers", path)
}

func (s *raftServer) routes() {
	s.mux.HandleFunc("/state", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprint(w, s.lastState)
	})
	s.mux.HandleFunc("/voters", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, voters(s.server)) })
	s.mux.HandleFunc("GET /db", func(w http.ResponseWriter, _ *http.Request) {
		b, err := s.config.Save()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(b)
	})
	s.mux.HandleFunc("POST /db/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, err := io.ReadAll(r.Body)
		s.do(w, &writePointCommand{Series: r.PathValue("key"), Value: string(value)}, err)
	})
	s.mux.HandleFunc("POST /cluster/{what}", s.changeCluster)
	s.mux.HandleFunc("POST /snapshot", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.server.TakeSnapshot(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.mux.HandleFunc("GET /loaded", func(w http.ResponseWriter, _ *http.Request) {
		s.config.mu.RLock()
		defer s.config.mu.RUnlock()
		fmt.Fprint(w, s.config.loaded)
	})
}

// changeCluster takes in a server, lets it go, or sends it somewhere else. A
// follower passes the request on to the leader.
func (s *raftServer) changeCluster(w http.ResponseWriter, r *http.Request) {
	if leader, ok := s.server.Peers()[s.server.Leader()]; ok {
		http.Redirect(w, r, leader.ConnectionString+r.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	var who struct{ Name, ConnectionString string }
	err := json.NewDecoder(r.Body).Decode(&who)
	switch r.PathValue("what") {
	case "join":
		s.do(w, &joinCommand{Name: who.Name, ConnectionString: who.ConnectionString}, err)
	case "move":
		s.do(w, &changeAddressCommand{Name: who.Name, ConnectionString: who.ConnectionString}, err)
	case "leave":
		s.do(w, &forceLeaveCommand{Name: who.Name}, err)
	default:
		http.NotFound(w, r)
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

// do carries out a command for a client.
func (s *raftServer) do(w http.ResponseWriter, command raft.Command, err error) {
	if err == nil {
		_, err = s.server.Do(command)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}
