// Package health looks at the machine under a trail: its disk, clock, limits,
// certificates, and who may read its files. Each probe returns what it saw, and
// what it saw judges itself: ok, warn or fail, what would be expected, and what
// to do.
//
//	v, err := health.ReadVolume(dir)
//	if err == nil {
//		fmt.Println(v.Check())
//	}
//
// Probes ask the operating system only; they need no admin rights, change
// nothing but a scratch file (MeasureSync), and say so when the system does not
// tell. Judgement is apart from probing, so that it can be tested without a
// full disk or a wrong clock.
//
// It knows nothing of trails, and imports nothing of ours.
package health

import "fmt"

// Result says how well something is. The zero value is OK.
type Result int

// Results, from good to bad.
const (
	OK   Result = iota
	Warn        // it works, and somebody should look at it
	Fail        // it does not work, or evidence is at risk
)

var resultNames = [...]string{"ok", "warn", "fail"}

func (r Result) String() string { return resultNames[r] }

// MarshalText is String, for JSON.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (r *Result) UnmarshalText(text []byte) error {
	for i, name := range resultNames {
		if string(text) == name {
			*r = Result(i)
			return nil
		}
	}
	return fmt.Errorf("result: want ok, warn or fail")
}

// Check is one thing that was looked at. Its texts are for people; they name
// paths, never what is in a file.
type Check struct {
	Name     string `json:"check"`
	Result   Result `json:"result"`
	Found    string `json:"found"`
	Expected string `json:"expected,omitempty"`
	Advice   string `json:"advice,omitempty"` // what to do
}

// Unknown is a check that the system gave no answer to.
func Unknown(name string, err error, expected string) Check {
	return Check{Name: name, Result: Warn, Found: "not known: " + err.Error(), Expected: expected}
}

// worsen adds a finding: the worst one decides, and gives the advice.
func (c *Check) worsen(r Result, found, advice string) {
	if found != "" {
		c.Found += "; " + found
	}
	if r > c.Result {
		c.Result, c.Advice = r, advice
	}
}

func megabytes(n uint64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
