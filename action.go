package veritrail

import (
	"fmt"
	"strings"
)

// MatchAction tells whether an action code is of a pattern. A pattern is a code, in which a segment "*" stands for any
// one segment and, at the end, for one or more: "AUTH.*" matches AUTH.LOGIN and AUTH.LOGIN.FAIL, "DATA.*.READ" matches
// DATA.ACCOUNT.READ.
func MatchAction(pattern, action string) bool {
	for {
		want, restWant, moreWant := strings.Cut(pattern, ".")
		got, restGot, moreGot := strings.Cut(action, ".")
		switch {
		case want == "*" && !moreWant:
			return got != ""
		case want != got && (want != "*" || got == ""):
			return false
		case !moreWant || !moreGot:
			return moreWant == moreGot
		}
		pattern, action = restWant, restGot
	}
}

// CheckActionPattern tells whether MatchAction can make sense of a pattern.
func CheckActionPattern(pattern string) error {
	for segment := range strings.SplitSeq(pattern, ".") {
		if segment != "*" && !isAction(segment) {
			return fmt.Errorf("action pattern %.130q: want dotted segments of A-Z a-z 0-9 _ -, or *", pattern)
		}
	}
	return nil
}

func isAction(segment string) bool {
	if segment == "" || len(segment) > MaxActionBytes {
		return false
	}
	return strings.IndexFunc(segment, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}) < 0
}
