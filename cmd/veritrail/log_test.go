package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogGoesWhereItIsConfigured(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "up.log")
	var stderr bytes.Buffer
	log, err := openLog(logConfig{Level: "warn", Format: "json", File: path}, &stderr)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.Warn("this", "n", 1)
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var line struct {
		Level, Msg string
		N          int
	}
	if err := json.Unmarshal(text, &line); err != nil || line.Level != "WARN" || line.Msg != "this" || line.N != 1 || stderr.Len() > 0 {
		t.Errorf("%s: %+v, %v; on stderr: %s", text, line, err, stderr.String())
	}

	log, err = openLog(logConfig{}, &stderr)
	if err != nil || log.file != nil {
		t.Fatalf("%v", err)
	}
	log.Debug("not this")
	log.Info("that")
	if got := stderr.String(); !strings.Contains(got, "level=INFO msg=that") || strings.Contains(got, "not this") {
		t.Errorf("stderr: %s", got)
	}
	if err := log.setLevel("debug"); err != nil {
		t.Fatal(err)
	}
	log.Debug("now this")
	if err := log.setLevel("loud"); err == nil {
		t.Error("took a level that there is not")
	}
	log.Debug("still this")
	if got := stderr.String(); !strings.Contains(got, "now this") || !strings.Contains(got, "still this") {
		t.Errorf("stderr: %s", got)
	}
}

func TestLogRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range []logConfig{{Level: "loud"}, {Format: "xml"}, {File: t.TempDir()}} {
		_, err := openLog(c, new(bytes.Buffer))
		var code *coded
		if !errors.As(err, &code) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestReloadsDoNotHoldUpEachOther(t *testing.T) {
	var out bytes.Buffer
	var ran []string
	r := newReloads()
	r.add("first", func() error { ran = append(ran, "first"); return errors.New("permission denied") })
	r.add("second", func() error { ran = append(ran, "second"); return nil })
	r.run(slog.New(slog.NewTextHandler(&out, nil)))
	if len(ran) != 2 || !strings.Contains(out.String(), `msg="not reloaded" what=first problem="permission denied"`) || !strings.Contains(out.String(), "msg=reloaded what=second") {
		t.Errorf("ran %v: %s", ran, out.String())
	}
}
