package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/goraft/raft"
)

// testConfig is that of a node that is quick to elect a leader.
func testConfig(t *testing.T) config {
	return config{
		dir: t.TempDir(), host: "127.0.0.1",
		electionTimeout: 200 * time.Millisecond, heartbeatInterval: 20 * time.Millisecond,
		maxEntryBytes: 64 << 10, logger: slog.New(slog.DiscardHandler),
	}
}

// startAlone starts a node that is a cluster of one.
func startAlone(t *testing.T, c config) *node {
	t.Helper()
	n, err := openNode(c)
	must(t, err)
	t.Cleanup(n.stop)
	must(t, n.start())
	must(t, n.enter(t.Context(), ""))
	return n
}

// request sends a request as it is, without following a redirect.
func request(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	resp, err := http.DefaultTransport.RoundTrip(r)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(text)
}

// expect sends a request and compares the answer's status, and its body if that
// should be the value of a key.
func expect(t *testing.T, method, url, body string, status int, value string) {
	t.Helper()
	resp, text := request(t, method, url, body)
	if resp.StatusCode != status {
		t.Errorf("%s %s: %s %q, want %d", method, url, resp.Status, text, status)
	} else if method == http.MethodGet && status == http.StatusOK && text != value {
		t.Errorf("%s %s: %q, want %q", method, url, text, value)
	}
}

func TestKeysAndValues(t *testing.T) {
	n := startAlone(t, testConfig(t))
	keys := []string{
		"plain", "a/b", "a%2Fb", "a//b", "a/", "/a", "", ".", "..", "../a", "./a", "a/../b", "a%20b", "a+b",
		"%E4%BD%A0", "%00", "%25", "%253F", "a%3Fb", "a%23b", "a;b=c", "status", "db/a",
	}
	for i, key := range keys {
		url, value := n.address+keyPrefix+key, fmt.Sprintf("value %d\x00\xff", i)
		expect(t, http.MethodGet, url, "", http.StatusNotFound, "")
		expect(t, http.MethodDelete, url, "", http.StatusNotFound, "")
		expect(t, http.MethodPut, url, value, http.StatusOK, "")
	}
	for i, key := range keys {
		url, value := n.address+keyPrefix+key, fmt.Sprintf("value %d\x00\xff", i)
		expect(t, http.MethodGet, url, "", http.StatusOK, value)
		expect(t, http.MethodGet, url+"?stale=1", "", http.StatusOK, value)
		expect(t, http.MethodPost, url, "", http.StatusOK, "")
		expect(t, http.MethodGet, url, "", http.StatusOK, "")
		expect(t, http.MethodDelete, url, "", http.StatusOK, "")
		expect(t, http.MethodGet, url, "", http.StatusNotFound, "")
		expect(t, http.MethodGet, url+"?stale=1", "", http.StatusNotFound, "")
	}
}

func TestOneKeyInManySpellings(t *testing.T) {
	for spelling, want := range map[string]string{
		"a": "a", "%61": "a", "%2f": "%2F", "%2F": "%2F", "/": "/", "a%20b": "a%20b", "%c3%bc": "%C3%BC",
		"it's": "it%27s", "it%27s": "it%27s", "%2E%2e": "..", "..": "..", "": "",
	} {
		if got, err := canonicalKey(spelling); got != want || err != nil {
			t.Errorf("%q is %q, %v, want %q", spelling, got, err, want)
		}
	}
	if _, err := canonicalKey("%zz"); err == nil {
		t.Error("%zz is a key")
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	n := startAlone(t, testConfig(t))
	for _, path := range []string{"", "/", "/db", "/dbx", "/x/../db/a", "//db/a", "/raft", "/raft/none"} {
		expect(t, http.MethodGet, n.address+path, "", http.StatusNotFound, "")
	}
	for _, path := range []string{keyPrefix + "a", joinPath, statusPath} {
		resp, _ := request(t, http.MethodPatch, n.address+path, "")
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
			t.Errorf("PATCH %s: %s, Allow %q", path, resp.Status, resp.Header.Get("Allow"))
		}
	}
}

func TestStatus(t *testing.T) {
	n := startAlone(t, testConfig(t))
	_, text := request(t, http.MethodGet, n.address+statusPath, "")
	var status raft.Status
	must(t, json.Unmarshal([]byte(text), &status))
	if status.Name != n.name || status.State != raft.Leader || len(status.Members) != 1 || status.Members[0].ConnectionString != n.address {
		t.Errorf("%+v", status)
	}
}

func TestTooLarge(t *testing.T) {
	c := testConfig(t)
	n := startAlone(t, c)
	url := n.address + keyPrefix + "a"
	exact := strings.Repeat("x", c.maxEntryBytes)
	expect(t, http.MethodPut, url, exact+exact, http.StatusRequestEntityTooLarge, "")
	expect(t, http.MethodPut, url, exact, http.StatusRequestEntityTooLarge, "") // with its header
	resp, err := http.Post(url, "", io.MultiReader(strings.NewReader(exact), strings.NewReader(exact)))
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("chunked: %s", resp.Status)
	}
	expect(t, http.MethodGet, url, "", http.StatusNotFound, "")
	fits := exact[:c.maxEntryBytes-100]
	resp, err = http.Post(url, "", io.MultiReader(strings.NewReader(fits)))
	must(t, err)
	must(t, resp.Body.Close())
	expect(t, http.MethodGet, url, "", http.StatusOK, fits)
	if held := n.service.held.Load(); held != 0 {
		t.Errorf("%d bytes are held when nothing is served", held)
	}
}

func TestNoLeader(t *testing.T) {
	n, err := openNode(testConfig(t))
	must(t, err)
	t.Cleanup(n.stop)
	must(t, n.start()) // and is no member of anything
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		resp, _ := request(t, method, n.address+keyPrefix+"a", strings.Repeat("x", 1<<10))
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %s, Retry-After %q", method, resp.Status, resp.Header.Get("Retry-After"))
		}
	}
	expect(t, http.MethodPost, n.address+joinPath, `{"name":"x","connectionString":"http://127.0.0.1:1"}`, http.StatusServiceUnavailable, "")
	expect(t, http.MethodGet, n.address+keyPrefix+"a?stale=1", "", http.StatusNotFound, "")
}

// fakeServer says what it is told to.
type fakeServer struct {
	raft.Server
	status raft.Status
	err    error
}

func (f *fakeServer) Status() raft.Status { return f.status }

func (f *fakeServer) DoContext(context.Context, raft.Command) (interface{}, error) {
	return nil, f.err
}

func (f *fakeServer) Read(_ context.Context, _ raft.ReadLevel, look func(raft.StateMachine) error) error {
	if f.err != nil {
		return f.err
	}
	return look(nil)
}

func TestWhatAnErrorSays(t *testing.T) {
	failed := func(cause, outcome error) error { return &raft.CommandError{Cause: cause, Outcome: outcome} }
	const unavailable, unknown = http.StatusServiceUnavailable, http.StatusGatewayTimeout
	for _, test := range []struct {
		err   error
		write int
	}{
		{failed(raft.ErrOverloaded, raft.ErrNotApplied), unavailable},
		{failed(raft.ErrLost, raft.ErrNotApplied), unavailable},
		{failed(raft.StopError, raft.ErrNotApplied), unavailable},
		{failed(raft.NotLeaderError, raft.ErrNotApplied), unavailable},
		{failed(raft.ErrEntryTooLarge, raft.ErrNotApplied), http.StatusRequestEntityTooLarge},
		{failed(raft.ErrLeadershipLost, raft.ErrOutcomeUnknown), unknown},
		{failed(raft.CommandTimeoutError, raft.ErrOutcomeUnknown), unknown},
		{failed(raft.StopError, raft.ErrOutcomeUnknown), unknown},
		{io.ErrUnexpectedEOF, http.StatusInternalServerError},
	} {
		s := &service{
			server: &fakeServer{status: raft.Status{State: raft.Leader}, err: test.err},
			store:  newStore(), logger: slog.New(slog.DiscardHandler),
			limits: limits{entryBytes: 1 << 10, heldBytes: 1 << 10, command: time.Minute, retryAfter: 1500 * time.Millisecond},
		}
		for method, want := range map[string]int{http.MethodPut: test.write, http.MethodDelete: test.write, http.MethodGet: unavailable} {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(method, keyPrefix+"a", strings.NewReader("v")))
			if w.Code != want {
				t.Errorf("%s, %v: %d, want %d", method, test.err, w.Code, want)
			}
			if after := w.Header().Get("Retry-After"); (w.Code == unavailable) != (after == "2") {
				t.Errorf("%s, %v: %d, Retry-After %q", method, test.err, w.Code, after)
			}
			if w.Code == unknown && !strings.Contains(w.Body.String(), "may have been applied") {
				t.Errorf("%s, %v: %q", method, test.err, w.Body)
			}
		}
	}
}

func TestTooManyBodies(t *testing.T) {
	s := &service{
		server: &fakeServer{status: raft.Status{State: raft.Leader}}, store: newStore(),
		limits: limits{entryBytes: 100, heldBytes: 150, command: time.Minute, retryAfter: time.Second},
	}
	reader, writer := io.Pipe()
	done := make(chan int)
	go func() {
		r := httptest.NewRequest(http.MethodPut, keyPrefix+"a", reader) // of any length: 100 bytes are set aside
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		done <- w.Code
	}()
	_, err := writer.Write([]byte("a")) // returns when the body is being read
	must(t, err)
	for size, want := range map[int]int{60: http.StatusServiceUnavailable, 50: http.StatusOK} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPut, keyPrefix+"b", strings.NewReader(strings.Repeat("b", size))))
		if w.Code != want {
			t.Errorf("%d bytes: %d, want %d", size, w.Code, want)
		}
	}
	must(t, writer.Close())
	if code := <-done; code != http.StatusOK {
		t.Errorf("the first: %d", code)
	}
	if s.held.Load() != 0 {
		t.Errorf("%d bytes are held when nothing is served", s.held.Load())
	}
}

func TestRedirect(t *testing.T) {
	status := raft.Status{Name: "b", State: raft.Follower, Leader: "a", Members: []raft.MemberStatus{
		{Name: "a", ConnectionString: "127.0.0.1:1/"}, {Name: "b", ConnectionString: "http://127.0.0.1:2"},
	}}
	s := &service{server: &fakeServer{status: status}, store: newStore(), limits: limits{entryBytes: 100, retryAfter: time.Second}}
	for _, path := range []string{keyPrefix + "a%2Fb//c/../d%20?x=%2F&y", joinPath} {
		body := strings.NewReader("body")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, body))
		if got, want := w.Header().Get("Location"), "http://127.0.0.1:1"+path; w.Code != http.StatusTemporaryRedirect || got != want {
			t.Errorf("%d to %q, want %q", w.Code, got, want)
		}
		if body.Len() != 0 {
			t.Errorf("%d bytes of the body are left, the client could not send them", body.Len())
		}
	}
	waiting := strings.NewReader("body")
	r := httptest.NewRequest(http.MethodPut, keyPrefix+"a", waiting)
	r.Header.Set("Expect", "100-continue")
	s.ServeHTTP(httptest.NewRecorder(), r)
	if waiting.Len() == 0 {
		t.Error("the body was asked for that another server needs")
	}
}
