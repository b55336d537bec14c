package logevent

import (
	"errors"
	"maps"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

func rules(t *testing.T, cfg Config) *Rules {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service = "payments"
	}
	r, err := New("test", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAttributesFindTheirPlace(t *testing.T) {
	r := rules(t, Config{ObjectKeys: []string{"table"}})
	type m = map[string]string
	tests := []struct {
		name          string
		attrs         []string
		action        string
		sub, obj, ctx m
	}{
		{"nobody and nothing named", nil, "APP.LOG", m{"svc": "payments"}, m{}, m{}},
		{"an action", []string{"act", "AUTH.LOGIN.OK"}, "AUTH.LOGIN.OK", m{"svc": "payments"}, m{}, m{}},
		{"subject keys", []string{"user", "u1", "role", "teller"}, "APP.LOG", m{"user": "u1", "role": "teller"}, m{}, m{}},
		{"object keys", []string{"table", "accounts"}, "APP.LOG", m{"svc": "payments"}, m{"table": "accounts"}, m{}},
		{"groups of the event's parts", []string{"sub.branch", "b7", "obj.account", "62", "ctx.ip", "192.0.2.7"}, "APP.LOG",
			m{"branch": "b7"}, m{"account": "62"}, m{"ip": "192.0.2.7"}},
		{"a subject key inside a group is no subject", []string{"req.user", "u1"}, "APP.LOG", m{"svc": "payments"},
			m{}, m{"req.user": "u1"}},
		{"an act inside a group is no action", []string{"req.act", "AUTH.LOGIN"}, "APP.LOG", m{"svc": "payments"},
			m{}, m{"req.act": "AUTH.LOGIN"}},
		{"a part without a key", []string{"sub", "x", "obj.", "y"}, "APP.LOG", m{"svc": "payments"}, m{},
			m{"sub": "x", "obj.": "y"}},
		{"the later wins and the earlier stays", []string{"user", "admin", "sub.user", "u7"}, "APP.LOG",
			m{"user": "u7"}, m{}, m{"shadowed.sub.user": "admin"}},
		{"three of a kind", []string{"k", "1", "k", "2", "k", "3"}, "APP.LOG", m{"svc": "payments"}, m{},
			m{"k": "3", "shadowed.k": "2", "shadowed.shadowed.k": "1"}},
		{"the same twice is no shadow", []string{"k", "1", "k", "1", "user", "u", "user", "u"}, "APP.LOG",
			m{"user": "u"}, m{}, m{"k": "1"}},
		{"two actions", []string{"act", "A.B", "act", "C.D"}, "C.D", m{"svc": "payments"}, m{}, m{"shadowed.act": "A.B"}},
		{"three actions", []string{"act", "A", "act", "B", "act", "C"}, "C", m{"svc": "payments"}, m{},
			m{"shadowed.act": "B", "shadowed.shadowed.act": "A"}},
		{"a subject without a value names nobody", []string{"user", "", "sub.role", ""}, "APP.LOG", m{"svc": "payments"}, m{},
			m{"user": "", "sub.role": ""}},
		{"keys of the recorder", []string{"seq", "1", "ctx.sdk", "x", "producer", "p"}, "APP.LOG", m{"svc": "payments"}, m{},
			m{"log.seq": "1", "log.sdk": "x", "log.producer": "p"}},
		{"bytes that are not UTF-8", []string{"user", "u\xff1"}, "APP.LOG", m{"user": "u\uFFFD1"}, m{}, m{}},
		{"an attribute called msg", []string{"msg", "mine"}, "APP.LOG", m{"svc": "payments"}, m{}, m{"msg": "mine"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := r.Begin(time.Time{}, veritrail.SeverityInfo)
			defer rec.End()
			for i := 0; i < len(tt.attrs); i += 2 {
				rec.Add(tt.attrs[i], tt.attrs[i+1])
			}
			e := rec.Event()
			if e.Action != tt.action || !maps.Equal(e.Subject, tt.sub) || !maps.Equal(e.Object, tt.obj) ||
				!maps.Equal(e.Context, tt.ctx) {
				t.Errorf("got  %s %v %v %v\nwant %s %v %v %v", e.Action, e.Subject, e.Object, e.Context, tt.action,
					tt.sub, tt.obj, tt.ctx)
			}
		})
	}
}

func TestMessageTakesItsPlaceFromAnAttribute(t *testing.T) {
	rec := rules(t, Config{}).Begin(time.Time{}, 0)
	defer rec.End()
	rec.Add("msg", "mine")
	rec.Message("the logger's")
	if got := rec.Event().Context; got["msg"] != "the logger's" || got["shadowed.ctx.msg"] != "mine" {
		t.Errorf("got %v", got)
	}
}

func TestRecordsKeepNothingOfTheOneBefore(t *testing.T) {
	r := rules(t, Config{})
	for range 100 {
		rec := r.Begin(time.Unix(1, 0), veritrail.SeverityError)
		if e := rec.Event(); len(e.Subject) != 1 || len(e.Object)+len(e.Context) != 0 || e.ID != "" ||
			rec.event.Action != "APP.LOG" {
			t.Fatalf("begins with %+v", e)
		}
		rec.Add("act", "X.Y")
		rec.Add("user", "u1")
		rec.Add("obj.k", "v")
		rec.Add("k", "v")
		rec.event.ID = "some"
		rec.End()
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]Config{
		"test: Service is not set":                              {},
		"test: Action: want dotted segments of A-Z a-z 0-9 _ -": {Service: "s", Action: "AUTH.*"},
	} {
		if _, err := New("test", cfg); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

type secret struct {
	Name   string
	PIN    string `json:"-"`
	hidden string
}

type stringer struct{ Secret string }

func (stringer) String() string { return "masked" }

type explosive struct{}

func (explosive) String() string { panic("4711") }

type inner struct{ err error }

func (e *inner) Error() string { return e.err.Error() }

func TestText(t *testing.T) {
	at := time.Date(2026, 3, 1, 17, 30, 0, 250e6, time.FixedZone("CST", 8*3600))
	var none *inner
	for _, tt := range []struct {
		v    any
		want string
	}{
		{"text", "text"},
		{7, "7"},
		{uint8(7), "7"},
		{true, "true"},
		{nil, "null"},
		{1.5, "1.5"},
		{at, "2026-03-01T09:30:00.25Z"},
		{time.Second, "1s"},
		{errors.New("no"), "no"},
		{netip.MustParseAddr("192.0.2.7"), "192.0.2.7"},
		{[]string{"a", "<b>"}, `["a","<b>"]`},
		{secret{"n", "4711", "4712"}, `{"Name":"n"}`},
		{stringer{"4711"}, "masked"},
		{explosive{}, "!ERROR: logevent.explosive panicked"},
		{none, "null"},
		{math.NaN(), "!ERROR: float64 has no JSON"},
		{make(chan int), "!ERROR: chan int has no JSON"},
	} {
		if got := Text(tt.v); got != tt.want {
			t.Errorf("%T: got %q, want %q", tt.v, got, tt.want)
		}
	}
	if got := Text(secret{hidden: "4711"}); strings.Contains(got, "4711") {
		t.Errorf("an unexported field shows: %s", got)
	}
}

// Whatever is added, an event comes out that breaks no rule but those about keys, actions and sizes, and that lost no value.
func FuzzAdd(f *testing.F) {
	f.Add("user", "u1", "sub.user", "u2")
	f.Add("act", "A.B", "act", "C")
	f.Add("seq", "1", "log.seq", "2")
	f.Add("k", "\xff", "shadowed.k", "")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		r := rules(t, Config{})
		rec := r.Begin(time.Time{}, 0)
		defer rec.End()
		rec.Add(k1, v1)
		rec.Add(k2, v2)
		rec.Add(k1, v2)
		e := rec.Event()
		for _, v := range []string{v1, v2} {
			v = strings.ToValidUTF8(v, "\uFFFD")
			if !holds(e, v) {
				t.Errorf("%q is in no part of %v %v %v %v", v, e.Action, e.Subject, e.Object, e.Context)
			}
		}
		var d veritrail.Draft
		if err := d.SetEvent(e); err != nil {
			t.Fatal(err)
		}
		var invalid *veritrail.InvalidEventError
		if err := d.Validate(); errors.As(err, &invalid) {
			for _, violation := range invalid.Violations {
				if violation.Path != "/act" &&
					!strings.Contains(violation.Rule, "key") && !strings.Contains(violation.Rule, "at most") {
					t.Error(violation)
				}
			}
		}
	})
}

func holds(e *veritrail.ComplianceEvent, value string) bool {
	if e.Action == value || value == "" { // an empty act is as good as none
		return true
	}
	for _, part := range []map[string]string{e.Subject, e.Object, e.Context} {
		for _, v := range part {
			if v == value {
				return true
			}
		}
	}
	return false
}
