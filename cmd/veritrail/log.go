package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/veritrail/veritrail/internal/logfile"
)

// logConfig is where the program's own log goes. What is in it are places,
// counts and errors, never a value of an event, a token or a key.
type logConfig struct {
	Level        string `yaml:"level" json:"level,omitempty"`   // debug, info, warn, error
	Format       string `yaml:"format" json:"format,omitempty"` // text, json
	File         string `yaml:"file" json:"file,omitempty"`     // standard error when empty
	MaxMegabytes int    `yaml:"max_megabytes" json:"max_megabytes,omitempty"`
	MaxFiles     int    `yaml:"max_files" json:"max_files,omitempty"`
	MaxAgeDays   int    `yaml:"max_age_days" json:"max_age_days,omitempty"`
}

func (c *logConfig) fillIn() {
	c.Level, c.Format = cmp.Or(c.Level, "info"), cmp.Or(c.Format, "text")
	c.MaxMegabytes, c.MaxFiles = cmp.Or(c.MaxMegabytes, 64), cmp.Or(c.MaxFiles, 10)
}

// ownLog is the program's own log.
type ownLog struct {
	*slog.Logger
	level slog.LevelVar
	file  *logfile.File // nil when it goes to stderr
}

// openLog makes the log.
func openLog(c logConfig, stderr io.Writer) (*ownLog, error) {
	c.fillIn()
	l := new(ownLog)
	if err := l.setLevel(c.Level); err != nil {
		return nil, err
	}
	var handler func(io.Writer) slog.Handler
	options := &slog.HandlerOptions{Level: &l.level}
	switch c.Format {
	case "text":
		handler = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	case "json":
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
	default:
		return nil, usageError("--log-format: want text or json")
	}
	if c.File == "" {
		l.Logger = slog.New(handler(stderr))
		return l, nil
	}
	var err error
	l.file, err = logfile.Open(logfile.Config{
		Path: c.File, MaxBytes: int64(c.MaxMegabytes) << 20, MaxFiles: c.MaxFiles, MaxAge: time.Duration(c.MaxAgeDays) * 24 * time.Hour,
		Fallback: stderr,
		Gap: func(lines uint64) []byte {
			var b bytes.Buffer
			slog.New(handler(&b)).Error("lines of this log could not be written here and went to standard error", "lines", lines)
			return b.Bytes()
		},
	})
	if err != nil {
		return nil, &coded{exitNotDone, fmt.Errorf("%w; choose another with --log-file", err)}
	}
	l.Logger = slog.New(handler(l.file))
	return l, nil
}

func (l *ownLog) setLevel(name string) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmp.Or(name, "info"))); err != nil {
		return usageError("--log-level: want debug, info, warn or error")
	}
	l.level.Set(level)
	return nil
}

func (l *ownLog) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
