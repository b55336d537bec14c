package search

import (
	"slices"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

func draft(t *testing.T) (*veritrail.Draft, []byte) {
	t.Helper()
	leaf := []byte(`{"id":"0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10","ts":"2026-03-01T12:00:00.000000000Z","sev":"WARN","sub":{"user":"10086"},"act":"AUTH.LOGIN.FAIL","obj":{"api":"/v1/login"},"ctx":{"ip":"192.0.2.7","note":"a \"quoted\" word"}}`)
	d := new(veritrail.Draft)
	if err := d.Parse(leaf); err != nil {
		t.Fatal(err)
	}
	return d, leaf
}

func TestConditions(t *testing.T) {
	d, leaf := draft(t)
	for where, want := range map[string]bool{
		"act=AUTH.LOGIN.FAIL": true, "act=AUTH.*": true, "act=DATA.*": false, "act!=DATA.*": true,
		"sub.user=10086": true, "sub.user=100*": true, "sub.user=*86": true, "sub.user=1*0*6": true, "sub.user=1*1*6": false,
		"sub.user=10087": false, "sub.user!=10087": true, "sub.role=*": false, "sub.role!=*": true,
		"obj.api=/v1/*": true, "ctx.ip=192.0.2.7": true, `ctx.note=a "quoted" word`: true,
		"sev=WARN": true, "sev=error": false, "sev>=INFO": true, "sev>=ERROR": false, "sev!=WARN": false,
		"id=0B54DD2E-6f3c-4d39-9f5a-2f1f6b7e8f10": true, "text=192.0.2": true, "text=nowhere": false,
		`text=a "quoted"`: true, "text=LOGIN.F": true, "text=!=x": false, "text!=LOGIN": false, "text!=nowhere": true,
		// Not in its id, its time, its severity, its keys, or how it is stored.
		"text=0b54dd2e": false, "text=2026-03": false, "text=WARN": false, "text=user": false, `text=":{"`: false,
	} {
		q, err := Parse([]string{where})
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		if got := q.Match(d, leaf); got != want {
			t.Errorf("%s: got %v, want %v", where, got, want)
		}
		if want && !q.MayMatch(leaf) {
			t.Errorf("%s: the quick look misses a match", where)
		}
	}
}

func TestWrongConditionsAreRefused(t *testing.T) {
	for _, where := range []string{"", "act", "=x", "act>=X", "act>X", "act=lo gin", "sub=x", "sub.=x", "sev=LOUD", "id=x", "text=", "nonsense=x", "act.x=y", "sub.user>=3"} {
		if _, err := Parse([]string{where}); err == nil {
			t.Errorf("%q accepted", where)
		}
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 3, 8, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"2026-03-01": time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "2026-03-01T12:00": time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		"2026-03-01T12:00:00+08:00": time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC), "7d": now.AddDate(0, 0, -7), "90m": now.Add(-90 * time.Minute), "1.5d": now.Add(-36 * time.Hour),
	} {
		if got, err := ParseTime(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "yesterday", "-7d", "7", "2026-13-01"} {
		if _, err := ParseTime(s, now); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
	d, leaf := draft(t)
	q := &Query{Since: d.Timestamp, Until: d.Timestamp.Add(1)}
	if !q.Match(d, leaf) {
		t.Error("an event at the start of the range does not match")
	}
	if q = (&Query{Until: d.Timestamp}); q.Match(d, leaf) {
		t.Error("an event at the end of the range matches")
	}
}

// An index asks these instead of the event.
func TestConditionsOfAQuery(t *testing.T) {
	q, err := Parse([]string{"act=AUTH.*", "sev=warn", "sev>=INFO", "sub.a.b!=x*", "text=y", "id=0B54DD2E-6f3c-4d39-9f5a-2f1f6b7e8f10"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Condition{{"act", "", "=", "AUTH.*"}, {"sev", "", "=", "warn"}, {"sev", "", ">=", "INFO"}, {"sub", "a.b", "!=", "x*"}, {"text", "", "=", "y"},
		{"id", "", "=", "0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10"}}
	got := q.Conditions()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i, exact := range []string{"", "WARN", "", "", "", "0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10"} {
		if value, ok := got[i].Exact(); value != exact || ok != (exact != "") {
			t.Errorf("%q: exactly %q, %v; want %q", got[i], value, ok, exact)
		}
	}
	for i, c := range []struct{ yes, no string }{{"AUTH.X", "DATA.X"}, {"WARN", "INFO"}, {"ERROR", ""}, {"xy", "y"}, {"ayb", "x"}, {got[5].Value, ""}} {
		if !got[i].MatchValue(c.yes) || got[i].MatchValue(c.no) {
			t.Errorf("%q: %q, %q: got %v, %v", got[i], c.yes, c.no, got[i].MatchValue(c.yes), got[i].MatchValue(c.no))
		}
	}
}

// Whatever is asked of whatever event: the quick look misses no match, and an
// exact value is the only one that matches.
func FuzzParse(f *testing.F) {
	event := `{"sev":"WARN","sub":{"user":"u"},"act":"A.B","obj":{"k":"a\"b\n"},"ctx":{"n":"转账"}}`
	for _, s := range []string{"act=A.*", "act!=A.B", "sub.user=u*", "sub.user=u", "sev>=WARN", "sev=warn", "text=转", "text=\"b", "obj.k=a\"b\n", "id=0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10"} {
		f.Add(s, event)
	}
	f.Fuzz(func(t *testing.T, where, event string) {
		q, err := Parse([]string{where})
		if err != nil {
			return
		}
		c := q.Conditions()[0]
		if exact, ok := c.Exact(); ok && !c.MatchValue(exact) {
			t.Errorf("%q does not match %q", where, exact)
		}
		e, err := veritrail.ParseEvent([]byte(event))
		if err != nil {
			return
		}
		e.ID, e.Timestamp = "0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10", time.Unix(1, 0)
		leaf, err := e.Canonical()
		if err != nil {
			return
		}
		var d veritrail.Draft
		if err := d.Parse(leaf); err != nil {
			t.Fatal(err)
		}
		if c.Match(&d) && !q.MayMatch(leaf) {
			t.Errorf("%q matches %s, and the quick look misses it", where, leaf)
		}
		if q.Match(&d, leaf) != c.Match(&d) {
			t.Errorf("%q and its only condition disagree about %s", where, leaf)
		}
		if value, there := d.Subject.Get(c.Key); c.Field == "sub" && c.Op == "=" && c.Match(&d) != (there && c.MatchValue(value)) {
			t.Errorf("%q: the value and the event disagree about %s", where, leaf)
		}
	})
}
