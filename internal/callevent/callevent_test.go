package callevent

import (
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/veritrail/veritrail"
)

func TestHandlersSpeakOverTheTransport(t *testing.T) {
	var n Notes
	var all sync.WaitGroup
	for name, set := range map[string]func() bool{
		"action":  func() bool { return n.SetAction("DATA.READ") },
		"subject": func() bool { return n.SetSubject("user", "u1") },
		"nobody":  func() bool { return n.SetSubject("role", "") },
		"object":  func() bool { return n.SetObject("account", "62") },
		"context": func() bool { return n.SetContext("mfa", "totp") },
	} {
		all.Go(func() {
			if !set() {
				t.Errorf("%s: not set", name)
			}
		})
	}
	all.Wait()
	d := New(time.Unix(1, 0))
	d.Event.Action = "ACCESS.HTTP.GET"
	d.Subject("user", "claimed")
	d.Subject("role", "claimed")
	d.Subject("device", "d1")
	d.Take(&n)
	e := d.Finish("svc")
	if e.Action != "DATA.READ" || !maps.Equal(e.Subject, map[string]string{"user": "u1", "device": "d1"}) ||
		e.Object["account"] != "62" || e.Context["mfa"] != "totp" || !e.Timestamp.Equal(time.Unix(1, 0)) {
		t.Errorf("got %v", e)
	}
	if n.SetAction("X") || n.SetSubject("user", "u2") || n.SetObject("k", "v") || n.SetContext("k", "v") {
		t.Error("set when the event was made")
	}
	var none *Notes
	if none.SetAction("X") || none.SetSubject("user", "u2") || none.SetObject("k", "v") || none.SetContext("k", "v") {
		t.Error("set on no event")
	}
}

func TestServiceStandsInForNobody(t *testing.T) {
	d := New(time.Time{})
	d.Subject("user", "")
	if got := d.Finish("payments").Subject; !maps.Equal(got, map[string]string{"svc": "payments"}) {
		t.Errorf("got %v", got)
	}
}

func FuzzPut(f *testing.F) {
	f.Add("u1")
	f.Add(strings.Repeat("ü", 600))
	f.Add("a" + strings.Repeat("\U0001F600", 256))
	f.Add(strings.Repeat("\xff", 5000))
	f.Fuzz(func(t *testing.T, value string) {
		d := New(time.Time{})
		d.Event.Action = "DATA.READ"
		d.Subject("user", value)
		d.Object("k", value)
		d.Context("k", value)
		e := d.Finish("svc")
		got := e.Object["k"]
		if len(got) > MaxValue || !utf8.ValidString(got) {
			t.Errorf("%d bytes, valid: %v", len(got), utf8.ValidString(got))
		}
		whole := strings.ToValidUTF8(value, "\uFFFD")
		_, cut := e.Context["cut"]
		if !strings.HasPrefix(whole, got) || cut != (got != whole) || cut && len(got) <= MaxValue-utf8.UTFMax {
			t.Errorf("%d of %d bytes, cut: %v", len(got), len(whole), cut)
		}
		var draft veritrail.Draft
		if err := draft.SetEvent(e); err != nil {
			t.Fatal(err)
		}
		if err := draft.Validate(); err != nil {
			t.Error(err)
		}
	})
}
