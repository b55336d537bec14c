package veritrail_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

// Whatever is accepted means the same to encoding/json, and has one canonical encoding that reads back as itself.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(loginCanonical))
	vectors, err := os.ReadFile("testdata/canonical.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(vectors) {
		f.Add(line)
	}
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `{"act":"A","sub":{"user":"u"},"obj":null,"ctx":null,"id":"","ts":"0001-01-01T00:00:00Z"}`,
		`{"act":"A","sub":{"user":"\ud83d\ude00\/\u0000"},"sev":"INFO"}`, `{"act":"A","sub":{"user":"\ud83d"}}`,
		`{"act":"A","sub":{"user":"u","user":"v"}}`, `{"act":"A","sub":{"user":1.5e-3,"a":[{"b":[true,false,null]}]}}`,
		`{"act":"A","Act":"B","sub":{"user":"u"}}`, "{\"act\":\"A\",\"sub\":{\"user\":\"\xff\"}}",
		`{"act":"A","sub":{"user":"u"},"ts":"2024-02-29T23:59:59.123456789-23:59"}`, `{"act":"A","sub":{"user":"u"}} x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := veritrail.ParseEvent(data)
		if err != nil {
			var invalid *veritrail.InvalidEventError
			if !errors.As(err, &invalid) || len(invalid.Violations) == 0 || len(invalid.Violations) > 16 {
				t.Fatalf("got %v, want an InvalidEventError of 1 to 16 violations", err)
			}
			if _, err := veritrail.ParseCanonical(data); err == nil {
				t.Fatal("ParseCanonical accepts what ParseEvent refuses")
			}
			return
		}
		var decoded veritrail.ComplianceEvent
		if err := json.Unmarshal(data, &decoded); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if !sameEvent(e, &decoded) {
			t.Fatalf("got %+v, encoding/json has %+v", e, decoded)
		}

		var again veritrail.Draft
		if err := again.SetEvent(e); err != nil {
			t.Fatal(err)
		}
		if err := again.Validate(); err != nil {
			t.Fatalf("Validate refuses what ParseEvent accepts: %v", err)
		}
		if e.ID == "" || e.Timestamp.IsZero() {
			if _, err := veritrail.ParseCanonical(data); err == nil {
				t.Fatal("ParseCanonical accepts an event without id or time")
			}
			return
		}
		leaf, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if got := again.AppendCanonical(nil); !bytes.Equal(got, leaf) {
			t.Fatalf("two encodings\n%s\n%s", got, leaf)
		}
		if bytes.IndexByte(leaf, '\n') >= 0 || !json.Valid(leaf) || len(leaf) > veritrail.MaxEventBytes {
			t.Fatalf("not one line of JSON within bounds: %q", leaf)
		}
		back, err := veritrail.ParseCanonical(leaf)
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("ParseCanonical: got %+v, %v, want %+v", back, err, e)
		}
		if _, err := veritrail.ParseCanonical(data); (err == nil) != bytes.Equal(data, leaf) {
			t.Fatalf("ParseCanonical of another spelling: %v", err)
		}
	})
}

// Whatever a Go program puts into an event is refused, or encoded so that encoding/json reads it back.
func FuzzCanonical(f *testing.F) {
	f.Add("user", "10086", "AUTH.LOGIN.FAIL", "k", "v\n\x00\"\\\u2028é😀", int64(1772357400), int64(123456789), uint8(3))
	f.Add("u\xff", "\xff", "", "", "", int64(-62135596800), int64(0), uint8(6))
	f.Add("用户", "张三", "a.b", "\x7f", "\u0085", int64(253402300799), int64(999999999), uint8(0))
	f.Fuzz(func(t *testing.T, key, who, action, key2, value string, sec, ns int64, sev uint8) {
		e := &veritrail.ComplianceEvent{
			ID: "919108f7-52d1-4320-9bac-f847db4148a8", Timestamp: time.Unix(sec, ns), Severity: veritrail.Severity(sev),
			Subject: map[string]string{key: who}, Action: action,
			Object: map[string]string{key2: value, key: value}, Context: map[string]string{key2: who},
		}
		leaf, err := e.Canonical()
		if err != nil {
			if !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
				t.Fatalf("got %v", err)
			}
			if text := err.Error(); len(value) > 24 && strings.Contains(text, value) {
				t.Fatalf("the error tells a value: %v", err)
			}
			return
		}
		var decoded veritrail.ComplianceEvent
		if err := json.Unmarshal(leaf, &decoded); err != nil || !sameEvent(&decoded, e) {
			t.Fatalf("encoding/json: got %+v, %v, want %+v", decoded, err, e)
		}
		back, err := veritrail.ParseCanonical(leaf)
		if err != nil || !sameEvent(back, e) {
			t.Fatalf("ParseCanonical: got %+v, %v, want %+v", back, err, e)
		}
	})
}

func FuzzParseUUID(f *testing.F) {
	f.Add("919108f7-52d1-4320-9bac-f847db4148a8")
	f.Add("C232AB00-9414-11EC-B3C8-9F6BDECED846")
	f.Add("{919108f7-52d1-4320-9bac-f847db4148a8}")
	f.Fuzz(func(t *testing.T, text string) {
		if u, err := veritrail.ParseUUID(text); err == nil && u.String() != strings.ToLower(text) {
			t.Fatalf("%q: got %v", text, u)
		}
	})
}
