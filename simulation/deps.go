//go:build simulation

package simulation

import (
	_ "github.com/anishathalye/porcupine"
	_ "github.com/goraft/raft"
)
