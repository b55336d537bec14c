package veritrail_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

func TestPairsSortByBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 7, 16, 17, 128} {
		var pairs veritrail.Pairs
		var want []string
		for i := range n {
			key := string(rune('a'+rng.IntN(3))) + strings.Repeat("\U0001F600", i%2) + strings.Repeat("\uFB33", i%3) + fmt.Sprint(i)
			pairs = append(pairs, veritrail.Pair{Key: key, Value: "of " + key})
			want = append(want, key)
		}
		slices.Sort(want)
		pairs.Sort()
		for i := range pairs {
			if pairs[i].Key != want[i] || pairs[i].Value != "of "+want[i] {
				t.Errorf("%d pairs: at %d got %v, want key %q", n, i, pairs[i], want[i])
			}
		}
	}
}

func TestPairsGet(t *testing.T) {
	pairs := veritrail.Pairs{{Key: "b", Value: "1"}, {Key: "a", Value: ""}}
	if got, ok := pairs.Get("a"); got != "" || !ok {
		t.Errorf(`Get("a") = %q, %v`, got, ok)
	}
	if got, ok := pairs.Get("b"); got != "1" || !ok {
		t.Errorf(`Get("b") = %q, %v`, got, ok)
	}
	if got, ok := pairs.Get("c"); got != "" || ok {
		t.Errorf(`Get("c") = %q, %v`, got, ok)
	}
}

func TestDraftGivesTheEventBack(t *testing.T) {
	var d veritrail.Draft
	for range 2 { // a draft used again holds nothing of the event before
		if err := d.SetEvent(login()); err != nil {
			t.Fatal(err)
		}
		if got := d.Event(); !reflect.DeepEqual(got, login()) {
			t.Errorf("got %+v, want %+v", got, login())
		}
		small := &veritrail.ComplianceEvent{Action: "A", Subject: map[string]string{"svc": "s"}}
		if err := d.SetEvent(small); err != nil {
			t.Fatal(err)
		}
		if got := d.Event(); !sameEvent(got, small) {
			t.Errorf("got %+v, want %+v", got, small)
		}
	}
}

func TestDraftSharesNoMapWithTheEvent(t *testing.T) {
	e := login()
	var d veritrail.Draft
	if err := d.SetEvent(e); err != nil {
		t.Fatal(err)
	}
	got := d.Event()
	got.Subject["user"] = "changed"
	e.Object["api"] = "changed"
	d.Context[0].Value = "changed"
	if e.Subject["user"] != "10086" || got.Object["api"] != "/v1/login" || !reflect.DeepEqual(e.Context, login().Context) {
		t.Errorf("a change in one shows in another: event %+v, draft's %+v", e, got)
	}
}

func TestDraftResetKeepsCapacityAndNoString(t *testing.T) {
	var d veritrail.Draft
	if err := d.SetEvent(login()); err != nil {
		t.Fatal(err)
	}
	capacity := cap(d.Context)
	d.Context = d.Context[:2] // as a stage that drops pairs leaves it
	d.Reset()
	if cap(d.Context) != capacity {
		t.Errorf("capacity %d became %d", capacity, cap(d.Context))
	}
	for _, pairs := range []veritrail.Pairs{d.Subject, d.Object, d.Context} {
		for _, p := range pairs[:cap(pairs)] {
			if p != (veritrail.Pair{}) {
				t.Errorf("a pair is left: %v", p)
			}
		}
	}
	d.Subject, d.Object, d.Context = nil, nil, nil
	if !reflect.DeepEqual(d, veritrail.Draft{}) {
		t.Errorf("something is left: %+v", d)
	}
}

func TestSetEventRefusesWhatADraftCannotHold(t *testing.T) {
	many := make(map[string]string)
	for i := range veritrail.MaxPairs + 1 {
		many[fmt.Sprintf("k%d", i)] = "v"
	}
	var d veritrail.Draft
	err := d.SetEvent(&veritrail.ComplianceEvent{ID: "x", Subject: many, Object: many, Context: many})
	wantViolations(t, err,
		veritrail.Violation{Path: "/id", Rule: "not a UUID", Shape: "string of 1 byte"},
		veritrail.Violation{Path: "/sub", Rule: "want at most 128 pairs", Shape: "object of 129 pairs"},
		veritrail.Violation{Path: "/obj", Rule: "want at most 128 pairs", Shape: "object of 129 pairs"},
		veritrail.Violation{Path: "/ctx", Rule: "want at most 128 pairs", Shape: "object of 129 pairs"})
	if len(d.Subject)+len(d.Object)+len(d.Context) != 0 || !d.ID.IsZero() {
		t.Errorf("the draft is not empty: %+v", d)
	}
	wantViolations(t, d.SetEvent(nil), veritrail.Violation{Rule: "want object", Shape: "nil"})
}

func TestDraftIsEmptyAfterAFailedParse(t *testing.T) {
	var d veritrail.Draft
	if err := d.Parse([]byte(loginCanonical[:len(loginCanonical)-1])); err == nil {
		t.Fatal("a cut event was accepted")
	}
	if d.Action != "" || len(d.Subject)+len(d.Object)+len(d.Context) != 0 || !d.ID.IsZero() || !d.Timestamp.IsZero() {
		t.Errorf("the draft is not empty: %+v", d)
	}
}

func TestValidateSorts(t *testing.T) {
	d := veritrail.Draft{
		Action:  "A",
		Subject: veritrail.Pairs{{Key: "user", Value: "u"}, {Key: "role", Value: "r"}},
		Object:  veritrail.Pairs{{Key: "b"}, {Key: "a"}},
		Context: veritrail.Pairs{{Key: "é"}, {Key: "z"}},
	}
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	want := "role user a b z é "
	var got string
	for _, p := range slices.Concat(d.Subject, d.Object, d.Context) {
		got += p.Key + " "
	}
	if got != want {
		t.Errorf("got order %q, want %q", got, want)
	}
}

// What only a Go program can put into an event; ParseEvent's tests have the other rules.
func TestValidateRejections(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*veritrail.Draft)
		want   veritrail.Violation
	}{
		{"year 10000", func(d *veritrail.Draft) { d.Timestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
			veritrail.Violation{Path: "/ts", Rule: "want a year from 1 to 9999 in UTC", Shape: "timestamp"}},
		{"year 10000 in UTC only", func(d *veritrail.Draft) {
			d.Timestamp = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -2*3600))
		}, veritrail.Violation{Path: "/ts", Rule: "want a year from 1 to 9999 in UTC", Shape: "timestamp"}},
		{"year 0", func(d *veritrail.Draft) { d.Timestamp = time.Date(0, 12, 31, 23, 59, 59, 999999999, time.UTC) },
			veritrail.Violation{Path: "/ts", Rule: "want a year from 1 to 9999 in UTC", Shape: "timestamp"}},
		{"unknown severity", func(d *veritrail.Draft) { d.Severity = 6 },
			veritrail.Violation{Path: "/sev", Rule: "want DEBUG, INFO, WARN, ERROR or CRITICAL", Shape: "number"}},
		{"no subject", func(d *veritrail.Draft) { d.Subject = nil },
			veritrail.Violation{Path: "/sub", Rule: "required", Shape: "nothing"}},
		{"no action", func(d *veritrail.Draft) { d.Action = "" },
			veritrail.Violation{Path: "/act", Rule: "required", Shape: "nothing"}},
		{"value not UTF-8", func(d *veritrail.Draft) { d.Object[0].Value = "\xff\xfe" },
			veritrail.Violation{Path: "/obj/api", Rule: "not valid UTF-8", Shape: "string of 2 bytes"}},
		{"subject not UTF-8", func(d *veritrail.Draft) { d.Subject[0].Value = "\xed\xa0\x80" },
			veritrail.Violation{Path: "/sub/role", Rule: "not valid UTF-8", Shape: "string of 3 bytes"}},
		{"key not UTF-8", func(d *veritrail.Draft) { d.Context[0].Key = "\xff" },
			veritrail.Violation{Path: "/ctx/?", Rule: "key is not valid UTF-8", Shape: "string of 1 byte"}},
		{"duplicate key", func(d *veritrail.Draft) { d.Context = append(d.Context, d.Context[0]) },
			veritrail.Violation{Path: "/ctx/device", Rule: "duplicate key", Shape: "string of 6 bytes"}},
		{"too many pairs", func(d *veritrail.Draft) {
			for i := len(d.Context); i <= veritrail.MaxPairs; i++ {
				d.Context = append(d.Context, veritrail.Pair{Key: fmt.Sprint("k", i)})
			}
		}, veritrail.Violation{Path: "/ctx", Rule: "want at most 128 pairs", Shape: "object of 129 pairs"}},
		{"too long", func(d *veritrail.Draft) { d.Context[0].Value = strings.Repeat("x", veritrail.MaxEventBytes) },
			veritrail.Violation{Rule: "want at most 65535 bytes of canonical JSON", Shape: "65897 bytes"}},
	} {
		var d veritrail.Draft
		if err := d.Parse([]byte(loginCanonical)); err != nil {
			t.Fatal(err)
		}
		tc.change(&d)
		t.Run(tc.name, func(t *testing.T) { wantViolations(t, d.Validate(), tc.want) })
	}
}

func TestValidateAllowsWhatIsFilledInLater(t *testing.T) {
	d := veritrail.Draft{Action: "A", Subject: veritrail.Pairs{{Key: "svc", Value: "s"}}}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
}

func TestViolationsAreBounded(t *testing.T) {
	d := veritrail.Draft{Action: "A", Subject: veritrail.Pairs{{Key: "svc", Value: "s"}}}
	for range 100 {
		d.Object = append(d.Object, veritrail.Pair{Key: "k", Value: "v"})
	}
	err := d.Validate()
	var invalid *veritrail.InvalidEventError
	if !errors.As(err, &invalid) || len(invalid.Violations) != 16 {
		t.Fatalf("got %v, want 16 violations", err)
	}
	const want = "invalid compliance event: /obj/k: duplicate key, got string of 1 byte (and 15 more)"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestErrorTextOfOneViolation(t *testing.T) {
	_, err := veritrail.ParseEvent([]byte(`{"act":"A","sub":{"user":10086}}`))
	if got, want := err.Error(), "invalid compliance event: /sub/user: type: want string, got number"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = veritrail.ParseEvent(nil)
	if got, want := err.Error(), "invalid compliance event: at byte 0: want object, got end of input"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		t.Error("the error matches everything")
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	e := login()
	var d veritrail.Draft
	buf := make([]byte, 0, 1024)
	if err := d.SetEvent(e); err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]func(){
		"SetEvent and Validate": func() {
			if d.SetEvent(e) != nil || d.Validate() != nil {
				t.Error("refused")
			}
		},
		"AppendCanonical": func() { buf = d.AppendCanonical(buf[:0]) },
	} {
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	data := []byte(loginCanonical)
	n := testing.AllocsPerRun(100, func() {
		if d.Parse(data) != nil {
			t.Error("refused")
		}
	})
	if n != 1 { // the copy of the text
		t.Errorf("Parse: %v allocations, want 1", n)
	}
}
