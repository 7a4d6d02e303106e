package raft

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Levels for SetLogLevel. They widen what the loggers of all servers of this
// process let through: Debug adds slog.LevelDebug, Trace adds what lies below.
const (
	Debug = 1
	Trace = 2
)

// levelTrace is where what is told at Trace stands among slog's levels.
const levelTrace = slog.LevelDebug - 4

var logLevel atomic.Int64

// LogLevel is what SetLogLevel was given last, 0 before that.
func LogLevel() int { return int(logLevel.Load()) }

// SetLogLevel makes the servers of this process tell more (Debug, Trace) or no
// more than their loggers want (0). It may be called at any time. New programs
// give their logger the level that they like: see WithLogger.
func SetLogLevel(level int) { logLevel.Store(int64(level)) }

// widened is a handler that also takes what SetLogLevel asks for, whatever level
// it was made with.
type widened struct{ slog.Handler }

// widen returns a logger to the same handler that heeds SetLogLevel.
func widen(logger *slog.Logger) *slog.Logger {
	return slog.New(widened{logger.Handler()})
}

// Enabled is slog.Handler's.
func (h widened) Enabled(ctx context.Context, level slog.Level) bool {
	switch asked := LogLevel(); {
	case asked >= Trace && level >= levelTrace, asked >= Debug && level >= slog.LevelDebug:
		return true
	}
	return h.Handler.Enabled(ctx, level)
}

// WithAttrs is slog.Handler's.
func (h widened) WithAttrs(attrs []slog.Attr) slog.Handler {
	return widened{h.Handler.WithAttrs(attrs)}
}

// WithGroup is slog.Handler's.
func (h widened) WithGroup(name string) slog.Handler {
	return widened{h.Handler.WithGroup(name)}
}
