package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

const bad = `{"act":"APP.TEST"}` // without a subject

func TestPostTakesEveryForm(t *testing.T) {
	e := event(1)
	pretty := "{\n  \"act\": \"APP.TEST\",\n  \"sub\": {\n    \"user\": \"u1\"\n  }\n}\n"
	for _, c := range []struct {
		name, kind, body string
		status           int
		code, results    string
	}{
		{"one object", "application/json", e, 201, "", "1 recorded"},
		{"one object of several lines", "application/json", pretty, 201, "", "1 recorded"},
		{"one object as curl -d sends it", "application/x-www-form-urlencoded", e, 201, "", "1 recorded"},
		{"no content type", "", " \r\n\t" + e + "\n\n", 201, "", "2 recorded"},
		{"a content type that is none", ";;", e, 201, "", "1 recorded"},
		{"an array", "application/json", "[" + e + ",\n " + pretty + "," + e + "] \n", 201, "", "1 recorded, 2 recorded, 3 recorded"},
		{"an empty array", "application/json", " [ ] ", 200, "", ""},
		{"lines", "application/x-ndjson", e + "\n" + e + "\n", 201, "", "1 recorded, 2 recorded"},
		{"lines without the last newline", "application/x-ndjson; charset=utf-8", e + "\n" + e, 201, "", "1 recorded, 2 recorded"},
		{"lines with empty ones between", "application/x-ndjson", "\n" + e + "\r\n \t\r\n\n" + e, 201, "", "2 recorded, 5 recorded"},
		{"lines under another name", "text/plain", e + "\n" + e, 201, "", "1 recorded, 2 recorded"},
		{"some rejected", "application/json", "[" + e + "," + bad + ",17," + e + "]", 207, "", "1 recorded, 2 rejected, 3 rejected, 4 recorded"},
		{"a broken line", "application/x-ndjson", e + "\n{\"act\n" + e, 207, "", "1 recorded, 2 rejected, 3 recorded"},
		{"a broken first line", "", "{\"act\n" + e + "\n" + e, 207, "", "1 rejected, 2 recorded, 3 recorded"},
		{"an array where lines are promised", "application/x-ndjson", "[" + e + "]\n" + e, 207, "", "1 rejected, 2 recorded"},
		{"one rejected", "application/json", bad, 422, "", "1 rejected"},
		{"JSON that is no event", "application/json", `"event"`, 422, "", "1 rejected"},
		{"all rejected", "", "[" + bad + "," + bad + "]", 422, "", "1 rejected, 2 rejected"},
		{"all lines broken", "application/x-ndjson", "a\nb\n", 422, "", "1 rejected, 2 rejected"},
		{"no JSON", "application/json", "user=u1&act=APP.TEST", 400, "not_json", "1 rejected"},
		{"JSON that breaks off", "application/json", pretty[:20], 400, "not_json", "1 rejected"},
		{"objects without newlines between", "", e + e, 400, "not_json", "1 rejected"},
		{"nothing", "application/json", "", 400, "no_event", ""},
		{"only white space", "application/x-ndjson", " \n\n", 400, "no_event", ""},
		{"an array that breaks off", "", "[" + e + "," + e, 400, "not_json", "1 recorded, 2 recorded"},
		{"an array that breaks off inside", "", "[" + e + "," + e[:9], 400, "not_json", "1 recorded"},
		{"an array without commas", "", "[" + e + e + "]", 400, "not_json", "1 recorded"},
		{"an array and more", "", "[" + e + "]" + e, 400, "not_json", "1 recorded"},
		{"an array with the wrong end", "", "[" + e + "}", 400, "not_json", "1 recorded"},
		{"a page", "text/html", e, 415, "content_type", ""},
		{"a form with files", "multipart/form-data; boundary=x", e, 415, "content_type", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			p := s.post(c.body, c.kind)
			if p.status != c.status || p.code() != c.code || p.statuses() != c.results {
				t.Errorf("got %d %q %q, want %d %q %q\n%s", p.status, p.code(), p.statuses(), c.status, c.code, c.results, p.body)
			}
			if got := p.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("content type %q", got)
			}
			if want := strings.Count(c.results, rejected); p.Rejected != want || s.rec.Stats().Rejected != uint64(want) {
				t.Errorf("rejected %d, the recorder counts %d, want %d", p.Rejected, s.rec.Stats().Rejected, want)
			}
			s.checkRecorded(p)
		})
	}
}

func TestPostNamesWhatARejectedEventBrokeAndNoValue(t *testing.T) {
	s := newSite(t)
	const secret = "4111-1111-1111-1111"
	p := s.post(`{"act":"APP.TEST","sub":{"user":"u1"},"obj":{"card":17},"`+secret+`":"`+secret+`"}`, "application/json")
	if p.status != http.StatusUnprocessableEntity || len(p.Results) != 1 || len(p.Results[0].Violations) != 2 {
		t.Fatalf("got %d: %s", p.status, p.body)
	}
	for i, want := range []string{"/obj/card want string number", "/? unknown field string of 19 bytes"} {
		v := p.Results[0].Violations[i]
		if got := v.Path + " " + v.Rule + " " + v.Shape; got != want {
			t.Errorf("violation %d: got %q, want %q", i, got, want)
		}
	}
	s.post(`[{"`+secret+`":`+secret+`]`, "application/json")
	if log := s.log.String(); strings.Contains(string(p.body), secret) || strings.Contains(log, secret) || strings.Contains(log, testToken) {
		t.Errorf("a secret shows in the answer %s or the log\n%s", p.body, log)
	}
	if log := s.log.String(); !strings.Contains(log, "method=POST route=/v1/events code=422") {
		t.Errorf("access log:\n%s", log)
	}
}

func TestPostBoundsTheViolationsItLists(t *testing.T) {
	s := newSite(t)
	const lines, each = 70, 16
	var line strings.Builder
	for i := range each {
		fmt.Fprintf(&line, `"x%c":1,`, 'a'+i)
	}
	p := s.post(strings.Repeat("{"+strings.TrimSuffix(line.String(), ",")+"}\n", lines), "application/x-ndjson")
	if p.status != http.StatusUnprocessableEntity || p.Rejected != lines || len(p.Results) != lines {
		t.Fatalf("got %d, %d rejected", p.status, p.Rejected)
	}
	for i, r := range p.Results {
		want := each
		if i >= maxViolations/each {
			want = 1
		}
		if len(r.Violations) != want || r.More != each-want {
			t.Fatalf("line %d: %d violations and %d more, want %d listed", r.Line, len(r.Violations), r.More, want)
		}
	}
}

func TestPostKeepsTheOrder(t *testing.T) {
	s := newSite(t)
	const n = 600
	p := s.post(events(0, n), "application/x-ndjson")
	if p.status != http.StatusCreated || len(p.Results) != n {
		t.Fatalf("got %d, %d results", p.status, len(p.Results))
	}
	for i, r := range p.Results {
		if r.Line != i+1 || *r.Leaf != uint64(i) {
			t.Fatalf("result %d: line %d, leaf %d", i, r.Line, *r.Leaf)
		}
		leaf, _, err := s.rec.Trail().View().Leaves().ReadPlace(*r.Leaf)
		if err != nil || !bytes.Contains(leaf, fmt.Appendf(nil, `"obj":{"n":"%d"}`, i)) {
			t.Fatalf("leaf %d: %s, %v", *r.Leaf, leaf, err)
		}
	}
	s.checkRecorded(p)
}

// hidden keeps net/http from knowing a body's length.
type hidden struct{ io.Reader }

func TestPostRefusesWhatIsTooLarge(t *testing.T) {
	long := `{"act":"APP.TEST","sub":{"user":"u1"},"obj":{"x":"` + strings.Repeat("x", maxEventText) + `"}}`
	two := events(0, 2)
	const small = 100 << 10
	space := strings.Repeat(" ", small)
	for _, c := range []struct {
		name    string
		max     int64
		body    io.Reader
		kind    string
		code    string
		results string
	}{
		{"a body, as announced", small, strings.NewReader(two + space), "", "body_size", ""},
		{"a body of lines", small, hidden{strings.NewReader(two + strings.Repeat("\n", small))}, "application/x-ndjson", "body_size", "1 recorded, 2 recorded"},
		{"a body of an array", small, hidden{strings.NewReader("[" + event(1) + "," + space)}, "", "body_size", "1 recorded"},
		{"a body of one value", small, hidden{strings.NewReader("{\n" + space)}, "", "body_size", ""},
		{"white space", small, hidden{strings.NewReader(space + " ")}, "", "body_size", ""},
		{"an event", 0, strings.NewReader(long), "", "event_size", ""},
		{"an event that is a line", 0, strings.NewReader(two + long + "\n" + two), "", "event_size", "1 recorded, 2 recorded"},
		{"an event in an array", 0, strings.NewReader("[" + event(1) + "," + long + "," + event(2) + "]"), "", "event_size", "1 recorded"},
		{"one value of many lines", 0, strings.NewReader("{\n" + strings.Repeat("\"a\":1,\n", maxEventText/7+1) + "}"), "", "event_size", ""},
		{"white space in an array", 0, strings.NewReader("[" + event(1) + "," + strings.Repeat(" ", 3*maxEventText) + event(2) + "]"), "", "event_size", "1 recorded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, func(_ *recorder.Config, sc *Config) { sc.MaxBody = c.max })
			p := s.postFrom(c.body, c.kind)
			if p.status != http.StatusRequestEntityTooLarge || p.statuses() != c.results || p.code() != c.code {
				t.Errorf("got %d %q %q: %.300s", p.status, p.code(), p.statuses(), p.body)
			}
			s.checkRecorded(p)
		})
	}
}

func TestPostTakesAnEventTextOfJustTheBound(t *testing.T) {
	e := event(1)
	text := e + strings.Repeat(" ", maxEventText-len(e))
	for _, body := range []string{text, text + "\n" + text + "\n", "[" + e + "]"} {
		s := newSite(t)
		if p := s.post(body, ""); p.status != http.StatusCreated {
			t.Errorf("body of %d bytes: got %d: %.300s", len(body), p.status, p.body)
		}
	}
	s := newSite(t)
	if p := s.post(text+" ", ""); p.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a byte more: got %d: %.300s", p.status, p.body)
	}
}

func TestPostStopsAtTooManyEvents(t *testing.T) {
	for _, form := range []string{"%s%s", "[%s%s]"} {
		s := newSite(t)
		if s.srv.events != 100_000 {
			t.Errorf("at most %d events, want 100,000", s.srv.events)
		}
		const most = 50
		s.srv.events = most
		separator := "\n"
		if form[0] == '[' {
			separator = ","
		}
		all := strings.Repeat(event(1)+separator, most-1) + event(1)
		p := s.post(fmt.Sprintf(form, all, ""), "")
		if p.status != http.StatusCreated || p.Accepted != most {
			t.Errorf("as many as allowed: got %d, accepted %d", p.status, p.Accepted)
		}
		over := s.post(fmt.Sprintf(form, all, separator+event(2)), "")
		if over.status != http.StatusRequestEntityTooLarge || over.code() != "event_count" || over.Accepted != most || len(over.Results) != most {
			t.Errorf("one more: got %d %q, accepted %d of %d results", over.status, over.code(), over.Accepted, len(over.Results))
		}
		s.checkRecorded(p, over)
	}
}

// TestPostSaysWhatWasRecordedBeforeTheTrailHalted breaks the disk while a body
// is on its way, and mends it.
func TestPostSaysWhatWasRecordedBeforeTheTrailHalted(t *testing.T) {
	s := newSite(t)
	// No checkpoint can be put where a directory is.
	obstacle := filepath.Join(s.dir, trail.CheckpointFile)
	if err := os.MkdirAll(filepath.Join(obstacle, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	answers := make(chan posted, 1)
	go func() { answers <- s.postFrom(r, "application/x-ndjson") }()
	send := func(text string) {
		if _, err := io.WriteString(w, text); err != nil {
			t.Error(err)
		}
	}
	send(events(0, 3))
	await(t, "three events are recorded", func() bool { return s.rec.Stats().Size == 3 })
	if err := s.rec.Seal(t.Context()); err == nil {
		t.Fatal("sealed in spite of the obstacle")
	}
	send(events(3, 2))
	p := <-answers
	w.Close()
	if p.status != http.StatusServiceUnavailable || p.code() != "halted" || p.header.Get("Retry-After") == "" ||
		p.statuses() != "1 recorded, 2 recorded, 3 recorded, 4 not_recorded" {
		t.Errorf("got %d %q %q: %s", p.status, p.code(), p.statuses(), p.body)
	}
	if strings.Contains(string(p.body), s.dir) {
		t.Errorf("the answer tells where the trail lies: %s", p.body)
	}
	if ready := s.get("/readyz"); ready.status != http.StatusServiceUnavailable || !strings.Contains(string(ready.body), `"halted"`) {
		t.Errorf("readyz: %d %s", ready.status, ready.body)
	}
	if !strings.Contains(string(s.get("/metrics").body), "\nveritrail_halted 1\n") {
		t.Error("metrics do not say so")
	}
	if err := os.RemoveAll(obstacle); err != nil {
		t.Fatal(err)
	}
	await(t, "ready again", func() bool { return s.get("/readyz").status == http.StatusOK })
	again := s.post(events(3, 2), "")
	if again.status != http.StatusCreated {
		t.Errorf("after the repair: %d: %s", again.status, again.body)
	}
	s.checkRecorded(p, again)
}

// A trail that answers only for what a checkpoint covers, and can't sign one.
func TestPostSaysWhatIsDurableAndNotSealed(t *testing.T) {
	s := newSite(t, func(c *recorder.Config, _ *Config) { c.Ack, c.CheckpointLeaves = recorder.AckSealed, 2 })
	if err := os.MkdirAll(filepath.Join(s.dir, trail.CheckpointFile, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := s.post(events(0, 2), "")
	if p.status != http.StatusServiceUnavailable || p.code() != "not_sealed" || p.statuses() != "1 unconfirmed, 2 unconfirmed" {
		t.Fatalf("got %d %q %q: %s", p.status, p.code(), p.statuses(), p.body)
	}
	if r := p.Results[1]; r.Leaf == nil || *r.Leaf != 1 {
		t.Errorf("no leaf for a durable event: %s", p.body)
	}
}

func TestPostToAClosedTrail(t *testing.T) {
	s := newSite(t)
	if err := s.rec.Close(); err != nil {
		t.Fatal(err)
	}
	p := s.post(events(0, 3), "")
	if p.status != http.StatusServiceUnavailable || p.code() != "closed" || p.header.Get("Retry-After") == "" || p.statuses() != "1 not_recorded" {
		t.Errorf("got %d %q %q: %s", p.status, p.code(), p.statuses(), p.body)
	}
}

// A body that breaks off must not leave half a line behind.
func TestPostDropsALineThatBrokeOff(t *testing.T) {
	for _, framing := range []string{"Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n10000\r\n"} {
		s := newSite(t)
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		// What is cut behind the object is an event in itself.
		text := events(0, 2) + event(2)
		if _, err := fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s%s", testToken, framing, text); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		p := parsePosted(t, reply{resp.StatusCode, resp.Header, b})
		if p.status != http.StatusBadRequest || p.code() != "body_ended" || p.Accepted != 2 || s.rec.Stats().Size != 2 {
			t.Errorf("got %d %q, %d events in the log: %s", p.status, p.code(), s.rec.Stats().Size, b)
		}
		conn.Close()
	}
}

func TestPostOfAClientThatGoesAwayLeavesNoGoroutine(t *testing.T) {
	s := newSite(t)
	s.fill(1)
	settled := checkNoLeak(t)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/events", r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testToken)
		ended := make(chan error, 1)
		go func() {
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			ended <- err
		}()
		if _, err := io.WriteString(w, events(0, 100)); err != nil {
			t.Fatal(err)
		}
		cancel()
		_ = w.CloseWithError(io.ErrClosedPipe) // never fails
		if err := <-ended; err == nil {
			t.Error("the request was answered")
		}
	}
	settled()
}

func TestConcurrentPostsAreAllThere(t *testing.T) {
	s := newSite(t, func(c *recorder.Config, _ *Config) { c.SM3, c.SegmentBytes = true, 1<<16 })
	const clients, requests, each = 8, 5, 40
	var mu sync.Mutex
	var all []posted
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range requests {
				p := s.post(events((c*requests+i)*each, each), "")
				if p.status != http.StatusCreated {
					t.Errorf("got %d: %.300s", p.status, p.body)
				}
				mu.Lock()
				all = append(all, p)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.checkRecorded(all...)
	view, _, err := trail.OpenView(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if got := view.Size(); got != clients*requests*each {
		t.Errorf("%d events in the trail, want %d", got, clients*requests*each)
	}
}
