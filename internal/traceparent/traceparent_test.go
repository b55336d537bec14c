package traceparent

import (
	"strings"
	"testing"
)

const (
	trace  = "0af7651916cd43dd8448eb211c80319c"
	parent = "b7ad6b7169203331"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, value string
		ok          bool
	}{
		{"the standard's example", "00-" + trace + "-" + parent + "-01", true},
		{"unknown flags", "00-" + trace + "-" + parent + "-ff", true},
		{"later version", "01-" + trace + "-" + parent + "-01", true},
		{"later version with more", "cc-" + trace + "-" + parent + "-01-what-the-future-brings", true},
		{"later version with more and no hyphen", "cc-" + trace + "-" + parent + "-01.what", false},
		{"version 00 with more", "00-" + trace + "-" + parent + "-01-more", false},
		{"version ff", "ff-" + trace + "-" + parent + "-01", false},
		{"version not hexadecimal", "0x-" + trace + "-" + parent + "-01", false},
		{"upper case", "00-" + strings.ToUpper(trace) + "-" + parent + "-01", false},
		{"trace id of zeros", "00-" + strings.Repeat("0", 32) + "-" + parent + "-01", false},
		{"span id of zeros", "00-" + trace + "-" + strings.Repeat("0", 16) + "-01", false},
		{"trace id too short", "00-" + trace[1:] + "-" + parent + "-011", false},
		{"flags not hexadecimal", "00-" + trace + "-" + parent + "-0g", false},
		{"flags missing", "00-" + trace + "-" + parent + "-", false},
		{"hyphens elsewhere", "00_" + trace + "_" + parent + "_01", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gotTrace, gotParent, ok := Parse(tt.value)
			if ok != tt.ok {
				t.Fatalf("ok = %v, want %v", ok, tt.ok)
			}
			if ok && (gotTrace != trace || gotParent != parent) {
				t.Errorf("got %s, %s", gotTrace, gotParent)
			}
			if !ok && gotTrace+gotParent != "" {
				t.Errorf("got %q, %q beside a refusal", gotTrace, gotParent)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00-" + trace + "-" + parent + "-01")
	f.Add("cc-" + trace + "-" + parent + "-01-more")
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		traceID, parentID, ok := Parse(value)
		if !ok {
			return
		}
		if len(traceID) != 32 || len(parentID) != 16 {
			t.Errorf("ids of %d and %d digits", len(traceID), len(parentID))
		}
		if !strings.HasPrefix(value[2:], "-"+traceID+"-"+parentID+"-") {
			t.Errorf("%q: ids that are not in it", value)
		}
	})
}
