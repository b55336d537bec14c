package veritrail

import "testing"

func TestActionPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, action string
		want            bool
	}{
		{"AUTH.LOGIN.FAIL", "AUTH.LOGIN.FAIL", true},
		{"AUTH.LOGIN", "AUTH.LOGIN.FAIL", false},
		{"AUTH.LOGIN.FAIL", "AUTH.LOGIN", false},
		{"AUTH.*", "AUTH.LOGIN.FAIL", true},
		{"AUTH.*", "AUTH.LOGIN", true},
		{"AUTH.*", "AUTH", false},
		{"AUTH.*", "AUTHX.LOGIN", false},
		{"DATA.*.READ", "DATA.ACCOUNT.READ", true},
		{"DATA.*.READ", "DATA.ACCOUNT.CARD.READ", false},
		{"*", "X", true},
		{"*.LOGIN", "AUTH.LOGIN", true},
		{"*.LOGIN", ".LOGIN", false},
		{"auth.*", "AUTH.LOGIN", false},
	} {
		if got := MatchAction(c.pattern, c.action); got != c.want {
			t.Errorf("MatchAction(%q, %q) = %v", c.pattern, c.action, got)
		}
	}
	for _, bad := range []string{"", "AUTH.", ".AUTH", "AUTH.LO*", "AUTH LOGIN", "A..B"} {
		if CheckActionPattern(bad) == nil {
			t.Errorf("pattern %q accepted", bad)
		}
	}
	if err := CheckActionPattern("DATA.*.READ_ALL-2"); err != nil {
		t.Error(err)
	}
}
