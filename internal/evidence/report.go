package evidence

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/veritrail/veritrail"
)

// Bounds of the report, whatever the case holds.
const (
	maxRows       = 1000
	maxActions    = 200 // counted one by one; further ones together
	maxCellPairs  = 16
	maxCellRunes  = 400 // of one part of an event: subject, object or context
	maxValueRunes = 160
)

//go:embed report.html.tmpl
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// A report gathers what report.html shows while events are added.
type report struct {
	config   *Config
	manifest *Manifest

	draft       veritrail.Draft
	rows        []row
	actions     map[string]*uint64
	moreActions uint64 // events whose action is not in actions
	severities  [veritrail.SeverityCritical + 1]uint64
	unreadable  uint64
	first, last time.Time // by the events' own clocks
}

type row struct {
	Index    uint64
	ID       string
	Day      string
	Clock    string
	Severity string
	Action   string
	Subject  []cellPair
	Object   []cellPair
	Context  []cellPair
	Readable bool
}

type cellPair struct{ Key, Value string }

func newReport(c *Config, m *Manifest) *report {
	return &report{config: c, manifest: m, actions: make(map[string]*uint64)}
}

// add counts one event. It returns false when the leaf is an event with
// another id than e says. A leaf that is no event of this version is still
// evidence: it is counted and shown as unreadable.
func (r *report) add(e *Event) bool {
	d := &r.draft
	if d.Parse(e.Leaf) != nil || d.ID.IsZero() || d.Timestamp.IsZero() {
		r.unreadable++
		if len(r.rows) < maxRows {
			r.rows = append(r.rows, row{Index: e.Index, ID: e.ID})
		}
		return true
	}
	var id [36]byte
	if string(d.ID.Append(id[:0])) != e.ID {
		return false
	}
	r.severities[d.Severity]++
	if n, known := r.actions[d.Action]; known {
		*n++
	} else if len(r.actions) < maxActions {
		one := uint64(1)
		r.actions[strings.Clone(d.Action)] = &one
	} else {
		r.moreActions++
	}
	if r.first.IsZero() || d.Timestamp.Before(r.first) {
		r.first = d.Timestamp
	}
	if r.last.IsZero() || d.Timestamp.After(r.last) {
		r.last = d.Timestamp
	}
	if len(r.rows) < maxRows {
		r.rows = append(r.rows, row{
			Index:    e.Index,
			ID:       e.ID,
			Day:      d.Timestamp.Format(time.DateOnly),
			Clock:    d.Timestamp.Format("15:04:05.000000000"),
			Severity: severityName(d.Severity),
			Action:   strings.Clone(d.Action),
			Subject:  cell(d.Subject),
			Object:   cell(d.Object),
			Context:  cell(d.Context),
			Readable: true,
		})
	}
	return true
}

func severityName(s veritrail.Severity) string {
	if s == veritrail.SeverityUnset {
		return ""
	}
	return s.String()
}

// cell makes the pairs fit a table's cell, and says where it cut.
func cell(pairs veritrail.Pairs) []cellPair {
	var out []cellPair
	left := maxCellRunes
	for i, p := range pairs {
		if i == maxCellPairs || left <= 0 {
			return append(out, cellPair{Key: "…", Value: fmt.Sprintf("+%d", len(pairs)-i)})
		}
		key, value := visible(p.Key, min(left, maxValueRunes)), visible(p.Value, min(left, maxValueRunes))
		left -= utf8.RuneCountInString(key) + utf8.RuneCountInString(value)
		out = append(out, cellPair{Key: key, Value: value})
	}
	return out
}

// visible cuts s and spells out what would not be seen, or would make a reader
// see something else: control and formatting characters, bidirectional
// overrides among them. The result shares no memory with s.
func visible(s string, max int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == max {
			b.WriteString("…")
			break
		}
		n++
		switch {
		case r == utf8.RuneError, unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// A count is one line of a summary table. Share is of all events, in percent.
type count struct {
	Name  string
	N     uint64
	Share float64
}

type reportKey struct{ Name, ID, Kind string }

// reportPage is what the template sees.
type reportPage struct {
	Manifest   *Manifest
	Created    string
	First      string
	Last       string
	Query      []string
	Root       string
	RootHex    string
	SM3Root    string
	SM3RootHex string
	Keys       []reportKey
	Rows       []row
	More       uint64
	Actions    []count
	Severities []count
	Unreadable uint64
	Digests    string
}

func (r *report) render() ([]byte, error) {
	m := r.manifest
	page := reportPage{
		Manifest:   m,
		Created:    m.Created.Format(time.RFC3339),
		Root:       base64.StdEncoding.EncodeToString(r.config.Root[:]),
		RootHex:    hex.EncodeToString(r.config.Root[:]),
		Rows:       r.rows,
		More:       m.Events - uint64(len(r.rows)),
		Unreadable: r.unreadable,
		Digests:    strings.Join(m.Digests, ", "),
	}
	for _, q := range m.Query {
		page.Query = append(page.Query, visible(q, maxQueryBytes))
	}
	if !r.first.IsZero() {
		page.First, page.Last = r.first.Format(time.RFC3339Nano), r.last.Format(time.RFC3339Nano)
	}
	if root := r.config.SM3Root; root != nil {
		page.SM3Root, page.SM3RootHex = base64.StdEncoding.EncodeToString(root[:]), hex.EncodeToString(root[:])
	}
	for _, text := range r.config.VKeys {
		key, _ := parseVKey(text) // Config.check read it before
		page.Keys = append(page.Keys, reportKey{Name: visible(key.Name, maxOriginBytes), ID: key.ID, Kind: key.kind()})
	}
	for name, n := range r.actions {
		page.Actions = append(page.Actions, r.count(name, *n))
	}
	slices.SortFunc(page.Actions, func(a, b count) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name))
	})
	if r.moreActions > 0 {
		page.Actions = append(page.Actions, r.count("… others 其他", r.moreActions))
	}
	for s := len(r.severities) - 1; s >= 0; s-- {
		if n := r.severities[s]; n > 0 {
			name := cmp.Or(severityName(veritrail.Severity(s)), "— not stated 未注明")
			page.Severities = append(page.Severities, r.count(name, n))
		}
	}
	if r.unreadable > 0 {
		page.Severities = append(page.Severities, r.count("— unreadable 无法解析", r.unreadable))
	}
	var b bytes.Buffer
	if err := reportTemplate.Execute(&b, &page); err != nil {
		return nil, fmt.Errorf("case: %s: %w", ReportFile, err)
	}
	return b.Bytes(), nil
}

func (r *report) count(name string, n uint64) count {
	return count{Name: name, N: n, Share: float64(n) / float64(r.manifest.Events) * 100}
}

// kind names the signature type of a key, as signed-note numbers them.
func (k *vkey) kind() string {
	switch k.Type {
	case 0x01:
		return "Ed25519"
	case 0x04:
		return "Ed25519 cosignature"
	case 0xff:
		if bytes.HasPrefix(k.Key, []byte("veritrail.dev/sm2-sm3/v1")) {
			return "SM2 with SM3"
		}
	}
	return fmt.Sprintf("type 0x%02x", k.Type)
}
