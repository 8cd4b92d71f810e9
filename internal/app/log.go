package app

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes one JSON object in a line. Durations are numbers of
// seconds.
func NewLogger(w io.Writer, level LogLevel) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.Level(level), ReplaceAttr: inSeconds}))
}

// inSeconds writes a duration as a number of seconds. slog would write nanoseconds.
func inSeconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key, a.Value.Duration().Seconds())
	}
	return a
}
