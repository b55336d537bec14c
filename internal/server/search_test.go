package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// page is what GET /v1/events answers.
type page struct {
	reply
	Events []served
	Next   string
	Size   uint64
	Sealed uint64
	Gaps   []gapInfo
}

func (s *site) page(query string) page {
	s.t.Helper()
	r := s.get("/v1/events?" + query)
	p := page{reply: r}
	if err := json.Unmarshal(r.body, &p); err != nil {
		s.t.Fatalf("%s: %v", r.body, err)
	}
	return p
}

// pages follows the cursors to the end, and calls between before each further
// page.
func (s *site) pages(query string, between func()) (all []served, n int) {
	s.t.Helper()
	next := ""
	for {
		p := s.page(query + next)
		if p.status != http.StatusOK {
			s.t.Fatalf("%s: got %d: %s", query, p.status, p.body)
		}
		n++
		all = append(all, p.Events...)
		if p.Next == "" {
			return all, n
		}
		next = "&cursor=" + p.Next
		between()
	}
}

func leavesOf(events []served) (out []uint64) {
	for _, e := range events {
		out = append(out, e.Leaf)
	}
	return out
}

func TestSearchFindsInBothOrders(t *testing.T) {
	s := newSite(t)
	s.fill(600)
	s.post(events(600, 100), "")
	for query, want := range map[string][]uint64{
		"where=sub.user%3Du17":                             {17},
		"where=sub.user%3Du1*&where=obj.n%3D*9&limit=1000": nil, // counted below
		"where=obj.n%3D69*&order=desc":                     {699, 698, 697, 696, 695, 694, 693, 692, 691, 690, 69},
		"where=obj.n%3D69*":                                {69, 690, 691, 692, 693, 694, 695, 696, 697, 698, 699},
		"where=obj.n%3D69*&order=desc&limit=2":             {699, 698},
		"where=act%3DDATA.*":                               {},
		"until=2020-01-01":                                 {},
		"since=1h&where=obj.n%3D7":                         {7},
	} {
		p := s.page(query)
		got := leavesOf(p.Events)
		if want == nil {
			for n := range 700 {
				if text := fmt.Sprint(n); text[0] == '1' && strings.HasSuffix(text, "9") {
					want = append(want, uint64(n))
				}
			}
		}
		if p.status != http.StatusOK || fmt.Sprint(got) != fmt.Sprint(want) || p.Size != 700 || p.Sealed != 600 || len(p.Gaps) != 0 {
			t.Errorf("%s: got %d %v, want %v", query, p.status, got, want)
		}
		for _, e := range p.Events {
			leaf, _, err := s.rec.Trail().View().Leaves().ReadPlace(e.Leaf)
			if err != nil || !bytes.Equal(leaf, e.Event) || e.Sealed != (e.Leaf < 600) || e.Proof != nil {
				t.Errorf("leaf %d: %+v, %v", e.Leaf, e, err)
			}
		}
	}
}

// TestPagesFitTogetherWhileTheTrailGrows: every event that was there when the
// search began is on exactly one page, in order, and none that came later.
func TestPagesFitTogetherWhileTheTrailGrows(t *testing.T) {
	for _, order := range []string{"asc", "desc"} {
		s := newSite(t)
		s.fill(700)
		added := 700
		all, n := s.pages("where=obj.n!%3D*3&limit=37&until=2999-01-01&order="+order, func() {
			s.post(events(added, 5), "")
			added += 5
		})
		var want []uint64
		for n := range uint64(700) {
			if n%10 != 3 {
				want = append(want, n)
			}
		}
		got := leavesOf(all)
		if order == "desc" {
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || n < 17 {
			t.Errorf("%s: %d pages, %v", order, n, got)
		}
	}
}

func TestRelativeTimesStayThoseOfTheFirstPage(t *testing.T) {
	now := time.Now()
	s := newSite(t, func(rc *recorder.Config, c *Config) { c.Now = func() time.Time { return now } })
	s.fill(20)
	first := s.page("since=1h&limit=5")
	now = now.Add(10 * time.Hour)
	if got := s.page("since=1h&limit=5&cursor=" + first.Next); len(got.Events) != 5 || got.Events[0].Leaf != 5 {
		t.Errorf("the second page: %s", got.body)
	}
	if got := s.page("since=1h&limit=5"); len(got.Events) != 0 {
		t.Errorf("a new search: %s", got.body)
	}
}

func TestCursorsAreOfOneTrailAndOneSearch(t *testing.T) {
	s, other := newSite(t), newSite(t, func(_ *recorder.Config, c *Config) { c.Token = testToken })
	s.fill(30)
	other.fill(5)
	next := s.page("where=act%3DAPP.TEST&limit=10").Next
	good := "where=act%3DAPP.TEST&limit=20&proof=1&cursor="
	if p := s.page(good + next); p.status != http.StatusOK || len(p.Events) != 20 || p.Next != "" {
		t.Errorf("with another limit: %d, %d events, %q", p.status, len(p.Events), p.Next)
	}
	raw, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(s *site, what, query string) {
		t.Helper()
		r := s.get("/v1/events?" + query)
		if r.status != http.StatusBadRequest || !strings.Contains(string(r.body), `"code":"cursor"`) {
			t.Errorf("%s: got %d: %.200s", what, r.status, r.body)
		}
	}
	for i := range raw {
		forged := bytes.Clone(raw)
		forged[i] ^= 1
		refuse(s, fmt.Sprintf("byte %d changed", i), good+base64.RawURLEncoding.EncodeToString(forged))
	}
	refuse(s, "cut", good+next[:len(next)-4])
	refuse(s, "longer", good+next+"AAAA")
	refuse(s, "nothing", good)
	refuse(s, "another spelling of the same bytes", good+next[:len(next)-1]+string(next[len(next)-1]+1))
	refuse(s, "another condition", "where=act%3DAPP.*&cursor="+next)
	refuse(s, "another order", "where=act%3DAPP.TEST&order=desc&cursor="+next)
	refuse(s, "other times", "where=act%3DAPP.TEST&since=1h&cursor="+next)
	refuse(other, "a trail that does not reach so far", good+next)
}

func TestSearchRefusesWhatItDoesNotKnow(t *testing.T) {
	s := newSite(t)
	s.fill(1)
	for _, query := range []string{
		"wher=act%3DAPP.*", "where=act", "where=", "where=nothing%3D1", "where=act%3D**x", "since=yesterday", "since=", "until=-5h", "since=1h&since=2h",
		"order=newest", "order=", "limit=0", "limit=-1", "limit=1001", "limit=x", "limit=", "proof=maybe", "where=%zz", "a;b", "since=99999999d",
		strings.Repeat("where=text%3Da&", maxConditions+1), "where=text%3D" + strings.Repeat("a", maxCondition),
	} {
		r := s.get("/v1/events?" + query)
		if r.status != http.StatusBadRequest || !strings.Contains(string(r.body), `"code":"parameter"`) {
			t.Errorf("%.80s: got %d: %s", query, r.status, r.body)
		}
	}
	const secret = "4111-1111-1111-1111"
	for _, query := range []string{"where=" + secret, secret + "=1", "since=" + secret, "order=" + secret, "limit=" + secret, "cursor=" + secret, "proof=" + secret} {
		if r := s.get("/v1/events?" + query); r.status != http.StatusBadRequest || strings.Contains(string(r.body), secret) {
			t.Errorf("%s: got %d: %s", query, r.status, r.body)
		}
	}
	if log := s.log.String(); strings.Contains(log, secret) {
		t.Errorf("the log repeats what was searched for:\n%s", log)
	}
}

func TestEveryHitCanComeWithItsProof(t *testing.T) {
	s := newSite(t, withSM3)
	s.fill(600)
	s.post(events(600, 2), "")
	check := func(what string, e *served) {
		t.Helper()
		if e.Leaf >= 600 {
			if e.Sealed || e.Proof != nil || e.Checkpoint != "" {
				t.Errorf("%s: leaf %d comes with a proof of what no checkpoint covers", what, e.Leaf)
			}
			return
		}
		if !e.Sealed || e.Proof == nil {
			t.Fatalf("%s: leaf %d has no proof", what, e.Leaf)
		}
		checkProof(t, e.Event, e.Leaf, e.Proof.SHA256, s.openNote([]byte(e.Checkpoint)))
		if len(e.Proof.SM3) == 0 {
			t.Errorf("%s: leaf %d has no SM3 proof", what, e.Leaf)
		}
	}
	p := s.page("proof=1&limit=300&order=desc")
	for i := range p.Events {
		check("page", &p.Events[i])
	}
	r := s.get("/v1/events?proof=1&where=obj.n%3D5*", "Accept", typeNDJSON)
	n := 0
	for line := range bytes.Lines(r.body) {
		var e served
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Event != nil {
			check("lines", &e)
			n++
		}
	}
	if n != 111 || len(p.Events) != 300 {
		t.Errorf("%d lines, %d on the page", n, len(p.Events))
	}
}

func TestLinesAreAllEventsAndALastLine(t *testing.T) {
	s := newSite(t)
	s.fill(2500)
	for query, want := range map[string]int{"": 2500, "limit=1700": 1700, "where=obj.n%3D*7&order=desc": 250, "where=act%3DDATA.*": 0} {
		r := s.get("/v1/events?"+query, "Accept", typeNDJSON)
		lines := bytes.Split(bytes.TrimSuffix(r.body, []byte("\n")), []byte("\n"))
		var last lastLine
		if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil {
			t.Fatal(err)
		}
		if r.status != 200 || r.header.Get("Content-Type") != typeNDJSON || len(lines)-1 != want || last.End.Events != want || last.Error != nil {
			t.Errorf("%q: got %d, %d lines, %+v", query, r.status, len(lines)-1, last)
		}
		if (last.End.Next != "") != (query == "limit=1700") {
			t.Errorf("%q: next %q", query, last.End.Next)
		}
		if last.End.Next != "" {
			if p := s.page("limit=1000&cursor=" + last.End.Next); len(p.Events) != 800 || p.Events[0].Leaf != 1700 {
				t.Errorf("%q: the rest is %d events", query, len(p.Events))
			}
		}
	}
}

// sse is one event of a live stream.
type sse struct{ id, event, data string }

// tailing is a live stream that is read.
type tailing struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (s *site) tail(t *testing.T, base, query, lastID string) *tailing {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/events?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	req.Header.Set("Accept", typeSSE)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req) //nolint:bodyclose // tailing.close does
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != typeSSE {
		t.Fatalf("got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	return &tailing{t, resp, bufio.NewScanner(resp.Body), cancel}
}

// next is the next event that has data; ok is false at the stream's end.
func (l *tailing) next() (e sse, ok bool) {
	for l.lines.Scan() {
		line := l.lines.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && e.data != "":
			return e, true
		case name == "id":
			e.id = value
		case name == "event":
			e.event = value
		case name == "data":
			e.data = value
		}
	}
	return e, false
}

// nextHit passes over what is no hit.
func (l *tailing) nextHit() (sse, served) {
	l.t.Helper()
	for {
		e, ok := l.next()
		if !ok {
			l.t.Fatalf("the stream ended: %v", l.lines.Err())
		}
		if e.event != "" {
			continue
		}
		var hit served
		if err := json.Unmarshal([]byte(e.data), &hit); err != nil || e.id != fmt.Sprint(hit.Leaf) {
			l.t.Fatalf("%+v: %v", e, err)
		}
		return e, hit
	}
}

func (l *tailing) close() {
	l.cancel()
	l.resp.Body.Close()
}

func TestLiveTailShowsWhatComesAndResumes(t *testing.T) {
	s := newSite(t)
	s.fill(300)
	tail := s.tail(t, s.url, "where=obj.n!%3D*3", "")
	s.post(events(300, 10), "")
	var id string
	for _, want := range []uint64{300, 301, 302, 304, 305} {
		e, hit := tail.nextHit()
		if hit.Leaf != want || hit.Sealed {
			t.Fatalf("leaf %d, want %d", hit.Leaf, want)
		}
		id = e.id
	}
	tail.close()
	s.seal()
	s.post(events(310, 5), "")
	again := s.tail(t, s.url, "where=obj.n!%3D*3", id)
	for _, want := range []uint64{306, 307, 308, 309, 310} {
		if _, hit := again.nextHit(); hit.Leaf != want || hit.Sealed != (want < 310) {
			t.Fatalf("after resuming: leaf %d, sealed %t, want %d", hit.Leaf, hit.Sealed, want)
		}
	}
	again.close()
	// What is stored comes first when it is asked for.
	since := s.tail(t, s.url, "since=24h&where=obj.n%3D1*", "")
	for _, want := range []uint64{1, 10, 11} {
		if _, hit := since.nextHit(); hit.Leaf != want {
			t.Fatalf("since: leaf %d, want %d", hit.Leaf, want)
		}
	}
	since.close()
	// With proofs, events come when they are sealed.
	proved := s.tail(t, s.url, "proof=1", "309")
	s.seal()
	_, hit := proved.nextHit()
	if hit.Leaf != 310 || hit.Proof == nil {
		t.Fatalf("with proofs: %+v", hit)
	}
	checkProof(t, hit.Event, hit.Leaf, hit.Proof.SHA256, s.openNote([]byte(hit.Checkpoint)))
	proved.close()
	for _, bad := range []string{"x", "-1", "315", "18446744073709551615"} {
		if r := s.get("/v1/events", "Accept", typeSSE, "Last-Event-ID", bad); r.status != http.StatusBadRequest {
			t.Errorf("Last-Event-ID %s: got %d", bad, r.status)
		}
	}
	for _, bad := range []string{"limit=5", "order=desc", "cursor=x"} {
		if r := s.get("/v1/events?"+bad, "Accept", typeSSE); r.status != http.StatusBadRequest {
			t.Errorf("%s: got %d", bad, r.status)
		}
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	s := newSite(t)
	s.fill(10)
	settled := checkNoLeak(t)
	l := s.listen(t, nil)
	var tails []*tailing
	for range 5 {
		tails = append(tails, s.tail(t, "http://"+l.addr, "", "4"))
	}
	for _, tail := range tails {
		if _, hit := tail.nextHit(); hit.Leaf != 5 {
			t.Errorf("leaf %d", hit.Leaf)
		}
	}
	begun := time.Now()
	l.stop(t)
	if took := time.Since(begun); took > shutdownTimeout/2 {
		t.Errorf("shutting down took %s", took)
	}
	for _, tail := range tails {
		for {
			if _, ok := tail.next(); !ok {
				break
			}
		}
		if err := tail.lines.Err(); err != nil {
			t.Errorf("the stream was torn: %v", err)
		}
		tail.close()
	}
	settled()
}

func TestStreamsAreBoundedInNumber(t *testing.T) {
	s := newSite(t)
	s.fill(1)
	s.srv.streams = make(chan struct{}, 2)
	one, two := s.tail(t, s.url, "", ""), s.tail(t, s.url, "", "")
	if r := s.get("/v1/events", "Accept", typeSSE); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
		t.Errorf("a third: got %d", r.status)
	}
	if r := s.get("/v1/events"); r.status != http.StatusOK {
		t.Errorf("a page meanwhile: got %d", r.status)
	}
	one.close()
	await(t, "room for another", func() bool { return len(s.srv.streams) < 2 })
	s.tail(t, s.url, "", "").close()
	two.close()
}

// stuck is a client that takes the header and then nothing.
type stuck struct {
	http.ResponseWriter
	deadline time.Time
}

func (w *stuck) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }

func (w *stuck) Write([]byte) (int, error) {
	if w.deadline.IsZero() || time.Until(w.deadline) > streamStall+time.Second {
		return 0, errors.New("written without a deadline")
	}
	return 0, os.ErrDeadlineExceeded
}

func TestClientThatTakesNothingIsCutOff(t *testing.T) {
	s := newSite(t)
	s.fill(10)
	for _, kind := range []string{typeSSE, typeNDJSON} {
		r := httptest.NewRequest(http.MethodGet, "/v1/events", nil)
		r.Header.Set("Authorization", "Bearer "+testToken)
		r.Header.Set("Accept", kind)
		w := &stuck{ResponseWriter: httptest.NewRecorder()}
		s.srv.Handler().ServeHTTP(w, r) // returns
		if w.deadline.IsZero() || len(s.srv.streams) != 0 || len(s.srv.looking) != 0 {
			t.Errorf("%s: deadline %s, %d streams, %d searches", kind, w.deadline, len(s.srv.streams), len(s.srv.looking))
		}
	}
}

// TestQuietStreamLives: a bound for each piece must not end a stream that has
// nothing to send. Over HTTP/2 it once did.
func TestQuietStreamLives(t *testing.T) {
	s := newSite(t)
	s.fill(10)
	s.srv.stall = 50 * time.Millisecond
	for _, http2 := range []bool{false, true} {
		ts := httptest.NewUnstartedServer(s.srv.Handler())
		ts.EnableHTTP2 = http2
		ts.Config.ReadTimeout, ts.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
		ts.StartTLS()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ts.URL+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testToken)
		req.Header.Set("Accept", typeSSE)
		resp, err := ts.Client().Do(req) //nolint:bodyclose // tailing.close does
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.ProtoMajor == 2; got != http2 {
			t.Errorf("HTTP/%d", resp.ProtoMajor)
		}
		tail := &tailing{t, resp, bufio.NewScanner(resp.Body), func() {}}
		for e, _ := tail.next(); e.event != "checkpoint"; e, _ = tail.next() {
			t.Fatalf("%+v: %v", e, tail.lines.Err())
		}
		<-time.After(300 * time.Millisecond) // there is no condition for nothing to happen
		s.post(event(1), "")
		if _, hit := tail.nextHit(); hit.Leaf < 10 {
			t.Errorf("leaf %d", hit.Leaf)
		}
		tail.close()
		ts.Close()
	}
}

// TestHeartbeatMovesTheLastEventID: a stream whose condition nothing fulfils
// need not look through the same leaves again after it was cut off.
func TestHeartbeatMovesTheLastEventID(t *testing.T) {
	s := newSite(t)
	s.fill(50)
	w := httptest.NewRecorder()
	st := &stream{w: w, rc: http.NewResponseController(w), s: s.srv}
	q, p := s.srv.parseInquiry("where=act%3DDATA.*", typeSSE)
	if p != nil {
		t.Fatal(p)
	}
	live := &tail{s: s.srv, stream: st, q: q, sent: time.Now().Add(-heartbeat)}
	if !live.goOn(t.Context()) {
		t.Fatal("ended")
	}
	live.sent = time.Now().Add(-heartbeat) // the first was the checkpoint
	if !live.goOn(t.Context()) || !strings.HasSuffix(w.Body.String(), "id: 49\n: \n\n") {
		t.Errorf("got %q", w.Body)
	}
	if live.goOn(t.Context()); strings.Count(w.Body.String(), ": \n\n") != 1 {
		t.Errorf("more than one heartbeat: %q", w.Body)
	}
}

// gappy is an index that could not read some leaves.
type gappy struct {
	search.Scanner
	gap search.Gap
}

func (g *gappy) Search(ctx context.Context, q *search.Query, first, end uint64, newest bool, hit func(search.Hit) error) ([]search.Gap, error) {
	gaps, err := g.Scanner.Search(ctx, q, first, end, newest, hit)
	return append(gaps, g.gap), err
}

func TestGapsAreTold(t *testing.T) {
	s := newSite(t)
	s.fill(3)
	secret := errors.New("/srv/secret/place: gone")
	s.srv.searcher = &gappy{*search.NewScanner(s.rec.Trail().View().Leaves()), search.Gap{First: 7, End: 9, Err: secret}}
	want := `"gaps":[{"first":7,"end":9,"problem":"unreadable"}]`
	if r := s.get("/v1/events"); r.status != http.StatusOK || !strings.Contains(string(r.body), want) || strings.Contains(string(r.body), "secret") {
		t.Errorf("page: %s", r.body)
	}
	if r := s.get("/v1/events", "Accept", typeNDJSON); !strings.Contains(string(r.body), want) {
		t.Errorf("lines: %s", r.body)
	}
	tail := s.tail(t, s.url, "since=1h", "")
	if e, _ := tail.next(); e.event != "gap" || e.data != `{"first":7,"end":9,"problem":"unreadable"}` {
		t.Errorf("live: %+v", e)
	}
	tail.close()
	// An event that was not found may be in the gap.
	if r := s.get(someID); r.status != http.StatusInternalServerError {
		t.Errorf("an event that may be in the gap: got %d", r.status)
	}
	if !strings.Contains(s.log.String(), "secret") {
		t.Error("the log does not say why")
	}
}

// A segment that is gone is a gap between what is found.
func TestSearchGoesOnBehindAMissingSegment(t *testing.T) {
	s := newSite(t, func(c *recorder.Config, _ *Config) { c.SegmentBytes = 4096 })
	for i := range 9 {
		s.post(events(i*100, 100), "")
	}
	s.seal()
	s.reopen(func(_ *recorder.Config, c *Config) { c.RememberIDs = -1 }) // else the segment is open, and can be read still
	files, err := trail.Segments(s.dir)
	if err != nil || len(files) < 4 {
		t.Fatalf("%d segments, %v", len(files), err)
	}
	if err := os.Remove(filepath.Join(s.dir, trail.SegmentsDir, files[1].Name)); err != nil {
		t.Fatal(err)
	}
	first, end := files[1].FirstLeaf, files[2].FirstLeaf
	for _, order := range []string{"asc", "desc"} {
		p := s.page("limit=1000&order=" + order)
		if len(p.Gaps) != 1 || p.Gaps[0] != (gapInfo{first, end, "missing"}) {
			t.Errorf("%s: gaps %v, want %d to %d", order, p.Gaps, first, end)
		}
		for _, e := range p.Events {
			if e.Leaf >= first && e.Leaf < end {
				t.Errorf("%s: leaf %d", order, e.Leaf)
			}
		}
	}
}

// TestSearchThatRunsOutOfTimeSaysHowFarItCame: it goes on from there, and the
// pieces fit together.
func TestSearchThatRunsOutOfTimeSaysHowFarItCame(t *testing.T) {
	s := newSite(t)
	s.fill(1000)
	for _, newest := range []bool{false, true} {
		q, p := s.srv.parseInquiry("where=obj.n%3D*7", typeJSON)
		if p != nil {
			t.Fatal(p)
		}
		q.newest = newest
		seen := make(map[uint64]bool)
		rounds := 0
		for ; !q.done(); rounds++ {
			q.step = 64
			all, gaps, err := s.srv.some(t.Context(), q, 1000, 0)
			if err != nil || len(gaps) > 0 {
				t.Fatal(gaps, err)
			}
			for _, f := range all {
				if seen[f.leaf] {
					t.Errorf("leaf %d twice", f.leaf)
				}
				seen[f.leaf] = true
			}
		}
		if len(seen) != 100 || rounds != 16 {
			t.Errorf("newest %t: %d hits in %d rounds, want 100 in 16", newest, len(seen), rounds)
		}
	}
}

func TestSearchEndsWithItsRequest(t *testing.T) {
	s := newSite(t)
	s.fill(10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events?"+url.Values{"where": {"act=APP.*"}}.Encode(), nil)
	r.Header.Set("Authorization", "Bearer "+testToken)
	w := httptest.NewRecorder()
	s.srv.Handler().ServeHTTP(w, r)
	if w.Code != statusClientGone {
		t.Errorf("got %d: %s", w.Code, w.Body)
	}
}

// FuzzSearch asks with any query. There is no panic, no fault of the server's,
// and whatever is answered is JSON.
func FuzzSearch(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "trail")
	rec, err := recorder.Open(recorder.Config{Dir: dir, Origin: "example.com/fuzz", Ack: recorder.AckBuffered, CheckpointEvery: time.Hour, CheckpointLeaves: 1 << 30})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = rec.Close() })
	srv, err := New(Config{Dir: dir, Recorder: rec, View: rec.Trail().View, Origin: "example.com/fuzz", VKeys: rec.Keys(), Token: testToken})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 300 {
		if err := rec.Event("APP.TEST").Sub("user", "u").Obj("n", fmt.Sprint(i)).Record(f.Context()); err != nil {
			f.Fatal(err)
		}
	}
	if err := rec.Seal(f.Context()); err != nil {
		f.Fatal(err)
	}
	handler := srv.Handler()
	get := func(query, accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/v1/events", nil)
		r.URL.RawQuery = query
		r.Header.Set("Authorization", "Bearer "+testToken)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	var first page
	if err := json.Unmarshal(get("where=act%3DAPP.*&limit=7", typeJSON).Body.Bytes(), &first); err != nil || first.Next == "" {
		f.Fatalf("no cursor: %v", err)
	}
	for _, query := range []string{
		"", "where=act%3DAPP.*&limit=7&cursor=" + first.Next, "where=sub.user%3Du&where=obj.n!%3D1*", "since=24h&until=2999-01-01", "order=desc&limit=3&proof=1",
		"where=sev%3E%3DWARN", "where=id%3D0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10", "cursor=" + first.Next, "limit=1000", "where=text%3D%22", "since=0001-01-01&until=9999-12-31",
		"where=obj.n%3D***1***", "since=1.5h&until=7d", "%", "a=b;c", "where=\xff", "proof=1&proof=1",
	} {
		f.Add(query, "application/json")
		f.Add(query, "application/x-ndjson, */*;q=0.1")
	}
	f.Fuzz(func(t *testing.T, query, accept string) {
		if accepted([]string{accept}, typeJSON, typeNDJSON, typeSSE) == typeSSE {
			accept = typeJSON // does not end
		}
		w := get(query, accept)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		last := uint64(0)
		for line := range bytes.Lines(w.Body.Bytes()) {
			if !json.Valid(line) {
				t.Fatalf("not JSON: %s", line)
			}
		}
		var p page
		if w.Header().Get("Content-Type") != typeJSON || w.Code != http.StatusOK {
			return
		}
		body, err := io.ReadAll(w.Body)
		if err != nil || json.Unmarshal(body, &p) != nil {
			t.Fatalf("%s: %v", body, err)
		}
		descending := strings.Contains(query, "order=desc")
		for i, e := range p.Events {
			if i > 0 && (e.Leaf > last) == descending && !strings.Contains(query, "cursor") {
				t.Fatalf("leaf %d behind %d", e.Leaf, last)
			}
			last = e.Leaf
		}
		if p.Next != "" {
			if _, err := parseCursor(p.Next, srv.cursorKey, nil); err == nil {
				t.Fatal("a cursor fits another search")
			}
		}
	})
}

// TestSearchSaysThatTheIndexIsBeingMade: in the answer, and among the numbers.
func TestSearchSaysThatTheIndexIsBeingMade(t *testing.T) {
	state := IndexState{Lag: 7, Rebuilding: "index rebuilding: 1 of 3 segments"}
	s := newSite(t, func(_ *recorder.Config, c *Config) { c.Index = func() IndexState { return state } })
	if r := s.get("/v1/events"); !strings.Contains(string(r.body), `"index":"index rebuilding: 1 of 3 segments"`) {
		t.Errorf("while it is being made: %s", r.body)
	}
	if r := s.get("/metrics"); !strings.Contains(string(r.body), "\nveritrail_index_lag 7\n") || !strings.Contains(string(r.body), "\nveritrail_index_rebuilding 1\n") {
		t.Error("the numbers do not say so")
	}
	state = IndexState{}
	if r := s.get("/v1/events"); strings.Contains(string(r.body), `"index"`) {
		t.Errorf("when it is whole: %s", r.body)
	}
}
