package veritrail

import (
	"errors"
	"strconv"
	"strings"
)

// ErrInvalidComplianceEvent is what every refusal of an event matches under errors.Is. The error itself is an
// [*InvalidEventError] where the rules of this package were broken.
var ErrInvalidComplianceEvent = errors.New("invalid compliance event")

// A Violation is one rule an event broke. It may be logged and stored anywhere: it never holds a value, and a key only
// where it looks like a name.
type Violation struct {
	Path    string // JSON Pointer (RFC 6901); a key that looks like data appears as "?"
	Rule    string // the rule in words, with what it expects: "want string", "not a UUID"
	Shape   string // what was there instead: "number", "string of 12 bytes", "nothing"
	Keyword string // of JSON Schema (draft-07) that says so: "type", "format"; empty where no schema can
}

// String returns the violation as one line, place before problem.
func (v Violation) String() string {
	line := v.Rule + ", got " + v.Shape
	if v.Keyword != "" && v.Keyword != v.Rule {
		line = v.Keyword + ": " + line
	}
	if v.Path == "" {
		return line
	}
	return v.Path + ": " + line
}

// An InvalidEventError says why an event was refused. It lists at least one violation and at most 16.
type InvalidEventError struct {
	Violations []Violation
}

// Error names the first violation and counts the others.
func (e *InvalidEventError) Error() string {
	line := ErrInvalidComplianceEvent.Error()
	if len(e.Violations) > 0 {
		line += ": " + e.Violations[0].String()
	}
	if more := len(e.Violations) - 1; more > 0 {
		line += " (and " + strconv.Itoa(more) + " more)"
	}
	return line
}

// Is makes the error match ErrInvalidComplianceEvent.
func (e *InvalidEventError) Is(target error) bool { return target == ErrInvalidComplianceEvent }

// The rules, as they are told. Those about syntax are made where they are found, because they carry an offset.
const (
	ruleRequired  = "required"
	ruleObject    = "want object"
	ruleString    = "want string"
	ruleUnknown   = "unknown field"
	ruleDuplicate = "duplicate key"
	ruleUUID      = "not a UUID"
	ruleNilUUID   = "want a UUID other than the nil UUID"
	ruleTimestamp = "not an RFC 3339 timestamp"
	ruleYear      = "want a year from 1 to 9999 in UTC"
	ruleSeverity  = "want DEBUG, INFO, WARN, ERROR or CRITICAL"
	ruleAction    = "want dotted segments of A-Z a-z 0-9 _ -"
	ruleUTF8      = "not valid UTF-8"
	ruleKeyEmpty  = "empty key"
	ruleKeyUTF8   = "key is not valid UTF-8"
	ruleKeyText   = "control character in key"
	ruleKeyLong   = "want a key of at most 128 bytes"
	ruleEmpty     = "want a value that is not empty"
	ruleLong      = "want at most 128 bytes"
	rulePairs     = "want at most 128 pairs"
	ruleSize      = "want at most 65535 bytes of canonical JSON"
)

// keywordOf is the keyword by which schemas/event.schema.json states a rule. Duplicate keys, encodings, and sizes of the
// whole are beyond JSON Schema.
func keywordOf(rule string) string {
	switch rule {
	case ruleRequired:
		return "required"
	case ruleObject, ruleString:
		return "type"
	case ruleUnknown:
		return "additionalProperties"
	case ruleUUID, ruleTimestamp, ruleYear:
		return "format"
	case ruleNilUUID:
		return "not"
	case ruleSeverity:
		return "enum"
	case ruleAction:
		return "pattern"
	case ruleKeyEmpty, ruleKeyText, ruleKeyLong:
		return "propertyNames"
	case ruleEmpty:
		return "minLength"
	case ruleLong:
		return "maxLength"
	case rulePairs:
		return "maxProperties"
	}
	return ""
}

const maxViolations = 16

// findings collects violations up to a bound. Its zero value costs nothing, as nearly every event is in order.
type findings struct {
	list []Violation
}

func (f *findings) add(path, rule, shape string) {
	if len(f.list) < maxViolations {
		f.list = append(f.list, Violation{path, rule, shape, keywordOf(rule)})
	}
}

func (f *findings) full() bool { return len(f.list) >= maxViolations }

func (f *findings) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return &InvalidEventError{f.list}
}

func stringShape(s string) string { return "string of " + sizeShape(len(s)) }

func sizeShape(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return strconv.Itoa(n) + " bytes"
}

func pairsShape(n int) string { return "object of " + strconv.Itoa(n) + " pairs" }

// JoinPointer appends an object's key to a JSON Pointer as a Violation shows it: a key that looks like data becomes "?".
func JoinPointer(base, key string) string { return pointer(base, key) }

// pointer appends key to the JSON Pointer base. A caller may have put a value where a key belongs, such as a telephone
// number or an address, and paths go into logs; so a key is shown only when it reads like a name. Such a name
// holds no "~" or "/", hence nothing to escape.
func pointer(base, key string) string {
	if !looksLikeName(key) {
		return base + "/?"
	}
	return base + "/" + key
}

func looksLikeName(key string) bool {
	if key == "" || len(key) > 64 || !isLetter(key[0]) {
		return false
	}
	digits := 0
	for i := range len(key) {
		switch c := key[i]; {
		case isDigit(c):
			digits++
		case !isLetter(c) && strings.IndexByte("_.-", c) < 0:
			return false
		}
	}
	return digits <= 4
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
