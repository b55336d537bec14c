package veritrail

import (
	"fmt"
	"strconv"
	"strings"
)

// Severity says how much attention an event asks for. The zero value says nothing and is left out of the encoding.
type Severity uint8

// The severities, in rising order.
const (
	SeverityUnset Severity = iota
	SeverityDebug
	SeverityInfo
	SeverityWarn
	SeverityError
	SeverityCritical
)

var severityNames = [...]string{"", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"}

// String returns the name used in the encoding, in upper case, and "" for SeverityUnset.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return "Severity(" + strconv.Itoa(int(s)) + ")"
}

// ParseSeverity reads a severity's name in any letter case, as people type it. The empty string is not a name.
func ParseSeverity(name string) (Severity, error) {
	for s := SeverityDebug; s <= SeverityCritical; s++ {
		if strings.EqualFold(name, severityNames[s]) {
			return s, nil
		}
	}
	return SeverityUnset, fmt.Errorf("severity: %s, got %s", ruleSeverity, stringShape(name))
}

// MarshalText writes the name used in the encoding.
func (s Severity) MarshalText() ([]byte, error) {
	if int(s) >= len(severityNames) {
		return nil, fmt.Errorf("severity: %s, got %d", ruleSeverity, uint8(s))
	}
	return []byte(severityNames[s]), nil
}

// UnmarshalText reads what MarshalText writes, and nothing else.
func (s *Severity) UnmarshalText(text []byte) error {
	for v, name := range severityNames {
		if string(text) == name {
			*s = Severity(v)
			return nil
		}
	}
	return fmt.Errorf("severity: %s, got %s", ruleSeverity, stringShape(string(text)))
}

// severityOf is the encoding's own reading: exact names only.
func severityOf(name string) (Severity, bool) {
	for s := SeverityDebug; s <= SeverityCritical; s++ {
		if name == severityNames[s] {
			return s, true
		}
	}
	return SeverityUnset, false
}
