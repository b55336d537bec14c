package recorder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/veritrail/veritrail"
)

// Allowlist says which kinds of subjects and which actions may be recorded.
// Anything else is refused, so that a misspelt code does not become a blind
// spot.
type Allowlist struct {
	Subjects []string // keys of Subject; DefaultAllowlist's when empty
	Actions  []string // patterns, see veritrail.MatchAction; DefaultAllowlist's when empty
}

// DefaultAllowlist is the catalogue to start with.
func DefaultAllowlist() Allowlist {
	return Allowlist{
		Subjects: []string{"user", "svc", "role", "session", "device"},
		Actions: []string{
			"AUTH.*", "ACCESS.*", "DATA.*", "CONFIG.*", "ADMIN.*", "KEY.*",
			"BUILD.*", "ENV.*", "BOOT.*", "NET.*", "SYS.*", "APP.*",
		},
	}
}

const ownActions = "TRAIL."

// allowlist is an Allowlist made ready. It is only read.
type allowlist struct {
	subjects []string
	exact    map[string]bool
	prefixes []string // "AUTH." for AUTH.*
	patterns []string // all others
}

func (a Allowlist) compile() (allowlist, error) {
	if len(a.Subjects) == 0 {
		a.Subjects = DefaultAllowlist().Subjects
	}
	if len(a.Actions) == 0 {
		a.Actions = DefaultAllowlist().Actions
	}
	out := allowlist{subjects: slices.Clone(a.Subjects), exact: make(map[string]bool)}
	for _, p := range a.Actions {
		if err := veritrail.CheckActionPattern(p); err != nil {
			return out, err
		}
		if p == "*" || strings.HasPrefix(p, ownActions) {
			return out, fmt.Errorf("action pattern %q: the actions TRAIL.* are the trail's own", p)
		}
		prefix, wild := strings.CutSuffix(p, "*")
		switch {
		case !strings.Contains(p, "*"):
			out.exact[p] = true
		case wild && !strings.Contains(prefix, "*"):
			out.prefixes = append(out.prefixes, prefix)
		default:
			out.patterns = append(out.patterns, p)
		}
	}
	return out, nil
}

func (a *allowlist) action(act string) bool {
	if strings.HasPrefix(act, ownActions) {
		return false
	}
	if a.exact[act] {
		return true
	}
	for _, p := range a.prefixes {
		if strings.HasPrefix(act, p) {
			return true
		}
	}
	return slices.ContainsFunc(a.patterns, func(p string) bool { return veritrail.MatchAction(p, act) })
}

// check refuses what the lists do not name, and keys that are the recorder's.
func (a *allowlist) check(d *veritrail.Draft, own bool) error {
	var found []veritrail.Violation
	if !own && !a.action(d.Action) {
		found = append(found, veritrail.Violation{Path: "/act", Rule: "action is not in the allowlist", Shape: shape(d.Action)})
	}
	for i := range d.Subject {
		if !own && !slices.Contains(a.subjects, d.Subject[i].Key) {
			// The key itself may be data; the place of an unknown kind is enough.
			found = append(found, veritrail.Violation{Path: "/sub", Rule: "subject kind is not in the allowlist", Shape: "key, " + shape(d.Subject[i].Key)})
		}
	}
	for _, key := range []string{keyProducer, keySDK, keySeq} {
		if v, there := d.Context.Get(key); there {
			found = append(found, veritrail.Violation{Path: "/ctx/" + key, Rule: "key is set by the recorder alone", Shape: shape(v)})
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &veritrail.InvalidEventError{Violations: found[:min(len(found), 16)]}
}

func shape(s string) string { return fmt.Sprintf("string of %d bytes", len(s)) }

// Check tells whether every pattern makes sense.
func (a Allowlist) Check() error {
	_, err := a.compile()
	return err
}
