package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/recorder"
)

// FuzzPostEvents posts any body. There is no panic and no fault of the server's;
// what is called recorded is in the trail, and nothing else is but the notes of
// rejections. Of lines, each is answered for, and recorded when it is an event.
func FuzzPostEvents(f *testing.F) {
	e := event(1)
	for _, body := range []string{
		e, e + "\n" + e, "[" + e + "," + e + "]", "[" + e + ",", "[", "[]", "[[]]", "{", "{}", "", " \n\t\r", bad, "[" + bad + ",null,1]",
		"{\n\"act\":\"APP.TEST\",\n\"sub\":{\"user\":\"u\"}}\n", "{\n" + e, e + "}", e + e, "\n\n" + e + "\r\n\r\n" + e, "a=b", "\xef\xbb\xbf" + e,
		`{"act":"APP.TEST","act":"APP.TEST","sub":{"user":"u"}}`, `{"act":"APP.TEST","sub":{"user":NaN}}`, "[" + e + "]" + e, "[" + e + e + "]",
		`{"act":"APP.TEST","sub":{"user":"\ud800"}}`, "{\"act\":\"APP.TEST\",\"sub\":{\"user\":\"\xff\"}}", strings.Repeat("[", 200),
		`{"id":"0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10","act":"APP.TEST","sub":{"user":"u"}}`,
		`{"\u0069d":"0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10","act":"APP.OTHER","sub":{"user":"u"}}`,
		`{"act":"TRAIL.X","sub":{"user":"u"}}`, `{"act":"APP.TEST","sub":{"user":"u"},"ctx":{"seq":"1"}}`, e + "\x00", "\"\n" + e,
	} {
		f.Add([]byte(body), "application/json", "")
		f.Add([]byte(body), "application/x-ndjson", "")
		f.Add(pack(f, codingGzip, []byte(body)), "application/x-ndjson", codingGzip)
		f.Add(pack(f, codingZstd, []byte(body)), "application/json", codingZstd)
	}
	bomb := bytes.Repeat([]byte(" "), 1<<20)
	f.Add(pack(f, codingGzip, bomb), "application/json", codingGzip)
	f.Add(pack(f, codingZstd, bomb), "application/json", codingZstd)
	dir := filepath.Join(f.TempDir(), "trail")
	rec, err := recorder.Open(recorder.Config{
		Dir: dir, Origin: "example.com/fuzz", Ack: recorder.AckBuffered, CheckpointEvery: time.Hour, CheckpointLeaves: 1 << 30,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = rec.Close() })
	srv, err := New(Config{
		Dir: dir, Recorder: rec, View: rec.Trail().View, Origin: "example.com/fuzz", VKeys: rec.Keys(), Token: testToken, MaxBody: 1 << 16,
	})
	if err != nil {
		f.Fatal(err)
	}
	handler := srv.Handler()
	f.Fuzz(func(t *testing.T, text []byte, kind, coding string) {
		before := rec.Stats()
		r := httptest.NewRequest(http.MethodPost, "/v1/events", hidden{bytes.NewReader(text)})
		r.Header.Set("Authorization", "Bearer "+testToken)
		r.Header.Set("Content-Type", kind)
		if coding != "" {
			r.Header.Set("Content-Encoding", coding)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if w.Code == http.StatusUnsupportedMediaType {
			return
		}
		p := parsePosted(t, reply{w.Code, w.Header(), w.Body.Bytes()})
		counts := make(map[string]int)
		stored := uint64(len(p.Results))
		for _, res := range p.Results {
			counts[res.Status]++
			if res.Duplicate || res.Status == conflict {
				stored--
			}
			if res.Status != recorded {
				continue
			}
			leaf, _, err := rec.Trail().View().Leaves().ReadPlace(*res.Leaf)
			if err != nil || !bytes.HasPrefix(leaf, []byte(`{"id":"`+res.ID+`"`)) {
				t.Fatalf("event %s is not leaf %d: %s, %v", res.ID, *res.Leaf, leaf, err)
			}
		}
		if counts[recorded] != p.Accepted || counts[rejected]+counts[conflict] != p.Rejected || len(p.Results) != p.Accepted+p.Rejected {
			t.Fatalf("counts do not fit the results: %s", w.Body)
		}
		// Each rejection leaves an event of its own, and is not waited for. What
		// comes after it is durable after it.
		if err := rec.Event("APP.AFTER").Sub("user", "fuzz").Record(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := rec.Stats()
		if counts[conflict] > 0 {
			stored++ // one note of all
		}
		if got := after.Size - before.Size - 1; got != stored || after.Rejected-before.Rejected != uint64(counts[rejected]) {
			t.Fatalf("%d events more in the log: %s", got, w.Body)
		}
		if kind == "application/x-ndjson" && coding == "" && w.Code != http.StatusRequestEntityTooLarge {
			checkLines(t, text, &p)
		}
	})
}

// checkLines compares the results with what each line by itself is.
func checkLines(t *testing.T, text []byte, p *posted) {
	t.Helper()
	i := 0
	for n, line := range bytes.Split(text, []byte("\n")) {
		if len(bytes.Trim(line, " \t\r")) == 0 {
			continue
		}
		if i == len(p.Results) || p.Results[i].Line != n+1 {
			t.Fatalf("line %d has no result: %s", n+1, p.body)
		}
		if res := p.Results[i]; res.Status == recorded {
			if _, err := veritrail.ParseEvent(line); err != nil || !json.Valid(line) {
				t.Fatalf("line %d was recorded: %v", n+1, err)
			}
		}
		i++
	}
	if i != len(p.Results) {
		t.Fatalf("%d lines, %d results", i, len(p.Results))
	}
}
