package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/veritrail/veritrail"
)

// printJSON writes one indented JSON document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func isTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd()))
}

// progress shows how far long work is, on stderr, when that is a terminal.
type progress struct {
	what string
	last time.Time
	on   bool
}

func newProgress(what string) *progress {
	return &progress{what: what, on: isTerminal(os.Stderr)}
}

func (p *progress) show(format string, args ...any) {
	if !p.on || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(os.Stderr, "\r\x1b[K%s: %s", p.what, fmt.Sprintf(format, args...))
}

func (p *progress) clear() {
	if p.on {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

// safe is text from an event for a terminal: what could move its cursor or
// turn its writing around is spelled out.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return '�'
		}
		return r
	}, s)
}

func pairs(p veritrail.Pairs, skip ...string) string {
	var out []string
next:
	for _, pair := range p {
		for _, s := range skip {
			if pair.Key == s {
				continue next
			}
		}
		out = append(out, safe(pair.Key)+"="+short(safe(pair.Value)))
	}
	return strings.Join(out, " ")
}

// short is a value for a table; show has it whole.
func short(s string) string {
	const most = 100
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// recorderKeys are what every event's context holds; tables leave it out.
var recorderKeys = []string{"host", "pid", "process", "producer", "sdk", "seq"}

// eventLine is an event as one line for people.
func eventLine(leaf uint64, d *veritrail.Draft) string {
	line := fmt.Sprintf("%8d  %s  %-8s  %-24s  %s", leaf, d.Timestamp.Format("2006-01-02T15:04:05.000Z"), d.Severity, safe(d.Action), pairs(d.Subject))
	if len(d.Object) > 0 {
		line += "  → " + pairs(d.Object)
	}
	if c := pairs(d.Context, recorderKeys...); c != "" {
		line += "  [" + c + "]"
	}
	return line
}

// count writes a number with thin groups: 1,234,567.
func count[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
