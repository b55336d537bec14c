package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/veritrail/veritrail/recorder"
)

// A request may name the shape of its events; without a name each tells its own.
func TestPostTakesShapes(t *testing.T) {
	const record = `{"event_type":"APP.TEST","actor":{"user_id":"u1"}}`
	const own = `{"who":"u1"}`
	s := newSite(t, func(c *recorder.Config, _ *Config) {
		c.Shapes = []recorder.Shape{{
			Name: "own", Schema: []byte(`{"type":"object","required":["who"]}`), Map: map[string]string{"act": "=APP.TEST", "sub.user": "/who"},
		}}
	})
	for _, c := range []struct {
		name, query, body string
		status            int
		code, results     string
	}{
		{"each tells", "", event(1) + "\n" + record + "\n" + own, 207, "", "1 recorded, 2 recorded, 3 rejected"},
		{"all are records", "?shape=record", record + "\n" + event(1), 207, "", "1 recorded, 2 rejected"},
		{"all are events", "?shape=event", "[" + record + "," + event(1) + "]", 207, "", "1 rejected, 2 recorded"},
		{"all are of the own form", "?shape=own", own, 201, "", "1 recorded"},
		{"of one that is not there", "?shape=none", record, 400, "shape", ""},
	} {
		p := parsePosted(t, s.do(http.MethodPost, "/v1/events"+c.query, strings.NewReader(c.body)))
		if p.status != c.status || p.code() != c.code || p.statuses() != c.results {
			t.Errorf("%s: got %d %q %q, want %d %q %q\n%s", c.name, p.status, p.code(), p.statuses(), c.status, c.code, c.results, p.body)
		}
	}
	p := s.post(`{"event_type":"APP.TEST","actor":{"user_id":""}}`, "application/json")
	if want := `{"path":"/actor/user_id","keyword":"minLength","rule":"want at least 1 character","shape":"string of 0 bytes"}`; !strings.Contains(string(p.body), want) {
		t.Errorf("got %s, want %s", p.body, want)
	}
}
