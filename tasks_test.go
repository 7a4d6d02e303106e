package raft

import (
	"bytes"
	"fmt"
	"regexp"
	"runtime/pprof"
	"testing"
)

// A profile of a process with several servers tells whose a goroutine is, those of
// the host's that read streams too.
func TestGoroutinesHaveTheServersName(t *testing.T) {
	h := newHTTPServers(t, 3, nil, func(t *HTTPTransporter) Transporter { return t })
	h.do(&testCommand{})
	names := [...]string{"n0", "n1", "n2"}
	leader := h.leader()
	first, second, third := names[leader], names[(leader+1)%3], names[(leader+2)%3]
	labels := func(name, server string) string { return fmt.Sprintf(`"raft":%q, "server":%q`, name, server) }
	want := []string{
		labels("loop", first), labels("log", second), labels("apply", third),
		labels("peer:"+second, first), labels("receive:"+third, first),
		labels("http stream reader", second), labels("http stream writer", third),
	}
	label := regexp.MustCompile(`"raft":"[^"]*"(, "server":"n[0-2]")?`)
	h.until("goroutines with labels", func() bool {
		var text bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, match := range label.FindAllString(text.String(), -1) {
			found[match] = true
		}
		for _, one := range want {
			if !found[one] {
				return false
			}
		}
		return true
	})
}
