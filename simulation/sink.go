//go:build simulation && !wasip1

package simulation

import (
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
	// Line by line: a run that panics or hangs is the one whose end is wanted.
	return func(line []byte) {
			if _, err := file.Write(line); err != nil {
				panic(err)
			}
		}, func() {
			file.Close()
		}
}
