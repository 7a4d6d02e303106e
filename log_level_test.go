package raft

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLogLevelWidens holds that SetLogLevel lets more through than the logger's
// own level, never less, and that what a logger is given stays with it.
func TestLogLevelWidens(t *testing.T) {
	t.Cleanup(func() { SetLogLevel(0) })
	for _, c := range []struct {
		level int
		own   slog.Level
		want  []string
	}{
		{0, slog.LevelInfo, []string{"info", "error"}},
		{0, slog.LevelError, []string{"error"}},
		{0, levelTrace, []string{"trace", "debug", "info", "error"}},
		{Debug, slog.LevelError, []string{"debug", "info", "error"}},
		{Trace, slog.LevelError, []string{"trace", "debug", "info", "error"}},
		{Trace + 1, slog.LevelInfo, []string{"trace", "debug", "info", "error"}},
		{-1, slog.LevelInfo, []string{"info", "error"}},
	} {
		SetLogLevel(c.level)
		require.Equal(t, c.level, LogLevel())
		var out bytes.Buffer
		log := widen(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: c.own}))).With("server", "a").WithGroup("g")
		log.Log(t.Context(), levelTrace, "trace", "k", 1)
		log.Debug("debug", "k", 1)
		log.Info("info", "k", 1)
		log.Error("error", "k", 1)
		var got []string
		for line := range bytes.Lines(out.Bytes()) {
			fields := bytes.Fields(line)
			_, message, _ := bytes.Cut(fields[2], []byte("="))
			got = append(got, string(message))
			require.Contains(t, string(line), " server=a g.k=1\n")
		}
		require.Equal(t, c.want, got, "level %d, logger %v", c.level, c.own)
	}
}

// TestLogLevelOfARunningServer holds that the level may be changed at any time.
func TestLogLevelOfARunningServer(t *testing.T) {
	t.Cleanup(func() { SetLogLevel(0) })
	var out bytes.Buffer
	s, err := NewServer("a", "/a", deaf{}, nil, nil, "", WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	require.NoError(t, err)
	s.SetElectionTimeout(2 * DefaultElectionTimeout)
	require.Empty(t, out.String())
	SetLogLevel(Debug)
	s.SetElectionTimeout(3 * DefaultElectionTimeout)
	require.Contains(t, out.String(), `level=DEBUG msg="raft: election timeout set" server=a duration=450ms`)
	SetLogLevel(0)
	out.Reset()
	s.SetElectionTimeout(2 * DefaultElectionTimeout)
	require.Empty(t, out.String())
}
