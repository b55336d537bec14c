package client

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const recordedTwo = `{"accepted":2,"rejected":0,"results":[{"line":1,"id":"0f8fad5b-d9cb-469f-a165-70867728950e","leaf":7,"status":"recorded"},` +
	`{"line":2,"id":"0f8fad5b-d9cb-469f-a165-70867728950f","leaf":0,"status":"recorded","duplicate":true}]}` + "\n"

// compareQuick reports whether the quick way was taken: then it says what
// encoding/json says.
func compareQuick(t *testing.T, text string, events int) bool {
	t.Helper()
	var quick, long answer
	if !quick.quick([]byte(text), events) {
		if !reflect.DeepEqual(quick, answer{}) {
			t.Errorf("not taken, and left %+v", quick)
		}
		return false
	}
	if err := json.Unmarshal([]byte(text), &long); err != nil {
		t.Fatalf("took what is no JSON: %v\n%s", err, text)
	}
	if !reflect.DeepEqual(quick, long) {
		t.Fatalf("got %+v, want %+v", quick, long)
	}
	return true
}

func TestAnswersAreReadQuicklyOrAtLength(t *testing.T) {
	tests := []struct {
		name, text string
		events     int
		taken      bool
	}{
		{"all recorded", recordedTwo, 2, true},
		{"more results than events", recordedTwo, 1, false},
		{"one rejected", strings.Replace(recordedTwo, `"rejected":0`, `"rejected":1`, 1), 2, false},
		{"one not confirmed", strings.Replace(recordedTwo, `"recorded"`, `"unconfirmed"`, 1), 2, false},
		{"an error", strings.Replace(recordedTwo, `"results"`, `"error":{"code":"x"},"results"`, 1), 2, false},
		{"other order", `{"results":[],"accepted":0,"rejected":0}`, 2, false},
		{"none", `{"accepted":0,"rejected":0,"results":[]}`, 2, false},
		{"broken off", recordedTwo[:len(recordedTwo)-3], 2, false},
		{"more behind it", recordedTwo + "{}", 2, false},
		{"large leaf", strings.Replace(recordedTwo, `"leaf":7`, `"leaf":18446744073709551615`, 1), 2, false},
		{"number of two zeros", strings.Replace(recordedTwo, `"leaf":0`, `"leaf":00`, 1), 2, false},
		{"negative line", strings.Replace(recordedTwo, `"line":1`, `"line":-1`, 1), 2, false},
		{"escape in the id", strings.Replace(recordedTwo, `0f8f`, `\u0030f8f`, 1), 2, false},
		{"empty", "", 2, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := compareQuick(t, test.text, test.events); got != test.taken {
				t.Errorf("taken: got %v, want %v", got, test.taken)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(recordedTwo, 2)
	f.Add(`{"accepted":1,"rejected":0,"results":[{"line":1,"id":"","leaf":1,"status":"recorded"}]}`, 9)
	f.Fuzz(func(t *testing.T, text string, events int) {
		compareQuick(t, text, max(0, min(events, 1000)))
	})
}
