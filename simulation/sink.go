//go:build simulation && !wasip1

package simulation

import (
	"bufio"
	"os"
	"testing"
)

// traceSink adds the trace to the file that SIM_TRACE names.
func traceSink(t *testing.T) (sink func([]byte), done func()) {
	path := os.Getenv("SIM_TRACE")
	if path == "" {
		return nil, func() {}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	return func(line []byte) { w.Write(line) }, func() {
		if err := w.Flush(); err != nil {
			t.Error(err)
		}
		file.Close()
	}
}
