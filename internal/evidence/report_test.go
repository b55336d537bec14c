package evidence

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/suite"
)

// reportOf writes a case of n events made by change and returns its report.
func reportOf(t *testing.T, n int, config func(*Config), change func(i int, e *veritrail.ComplianceEvent)) string {
	t.Helper()
	c := goldenConfig(t)
	c.SM3Root, c.TreeSize, c.Root = nil, uint64(n)+5, suite.Hash{}
	if config != nil {
		config(&c)
	}
	c.Checkpoint = note(c.Origin, c.TreeSize, c.Root)
	var events []Event
	for i := range n {
		e := &veritrail.ComplianceEvent{
			ID:        fmt.Sprintf("0f8fad5b-d9cb-469f-a165-%012d", i+1),
			Timestamp: time.Date(2026, 3, 1, 9, 0, i, 0, time.UTC),
			Subject:   map[string]string{"user": "u1"},
			Action:    "AUTH.LOGIN.OK",
			Severity:  veritrail.SeverityInfo,
		}
		change(i, e)
		leaf, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, Event{Leaf: leaf, Index: uint64(i), ID: e.ID})
	}
	return entry(t, writeCase(t, c, events...), ReportFile)
}

// Values that try to leave their place in the page.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><img src=http://evil.example/x onerror=alert(1)>`,
	`'><svg onload=alert(1)>`,
	`</td></table></body></html>`,
	`<!--`, `]]>`, `&lt;b&gt;`, `{{.Manifest}}`, `javascript:alert(1)`, `<style>@import "http://evil.example"</style>`,
}

func TestReportEscapesHostileValues(t *testing.T) {
	plain := elements(t, reportOf(t, len(hostile), nil, func(i int, e *veritrail.ComplianceEvent) {
		e.Object = map[string]string{"k": "v"}
		e.Context = map[string]string{"k": "v"}
	}))
	page := reportOf(t, len(hostile), func(c *Config) {
		c.Origin = hostile[1]
		c.Query = hostile[:2]
	}, func(i int, e *veritrail.ComplianceEvent) {
		e.Subject = map[string]string{"user": hostile[i]}
		e.Object = map[string]string{hostile[i]: "v"}
		e.Context = map[string]string{"k": hostile[i]}
	})
	// The values may add text, never an element or an attribute.
	if got := elements(t, page); got != plain {
		t.Errorf("the page has the elements\n%s\nwant\n%s", got, plain)
	}
	if !strings.Contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the value is not shown at all")
	}
}

// elements lists all elements of a page with their attributes, and fails where
// the page is not well-formed. The page is written so that it is XML too, but
// for the elements that HTML does not close.
func elements(t *testing.T, page string) string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict = false
	d.AutoClose = []string{"meta", "br", "col"}
	d.Entity = xml.HTMLEntity
	var b strings.Builder
	var open []string
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			fmt.Fprintf(&b, "%s%v ", e.Name.Local, e.Attr)
			open = append(open, e.Name.Local)
			switch e.Name.Local {
			case "meta", "br", "col":
				open = open[:len(open)-1]
			}
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != e.Name.Local {
				t.Fatalf("</%s> closes %v", e.Name.Local, open)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) != 0 {
		t.Errorf("never closed: %v", open)
	}
	return b.String()
}

func TestReportLoadsNothing(t *testing.T) {
	for _, page := range []string{entry(t, goldenCase(t), ReportFile), entry(t, golden(t, "case.zip"), ReportFile)} {
		if !strings.Contains(page, `http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'`) {
			t.Error("no content security policy")
		}
		for _, tag := range regexp.MustCompile(`<[^>]*>`).FindAllString(page, -1) {
			if regexp.MustCompile(`(?i)^<(script|link|img|iframe|object|embed|base|form|svg|video|audio)|\s(src|href|srcset|on[a-z]+)\s*=`).MatchString(tag) {
				t.Errorf("tag %s", tag)
			}
		}
		style := page[strings.Index(page, "<style>"):strings.Index(page, "</style>")]
		for _, load := range []string{"url(", "@import", "http:", "https:", "src("} {
			if strings.Contains(style, load) {
				t.Errorf("style has %s", load)
			}
		}
	}
}

func TestReportShowsCountsAndFirstRows(t *testing.T) {
	page := reportOf(t, 1203, func(c *Config) { c.Unsealed = 17 }, func(i int, e *veritrail.ComplianceEvent) {
		if i%4 == 0 {
			e.Action, e.Severity = "AUTH.LOGIN.FAIL", veritrail.SeverityError
		}
		if i == 1 {
			e.Severity = veritrail.SeverityUnset
		}
	})
	if got := strings.Count(page, `<td class="mono">2026-03-01<br>`); got != 1000 {
		t.Errorf("%d rows, want 1000", got)
	}
	for _, want := range []string{
		"The first 1000 of 1203 events. 203 more are in <code>events.jsonl</code>.",
		"<bdi>AUTH.LOGIN.OK</bdi></td><td class=\"n\">902</td>",
		"<bdi>AUTH.LOGIN.FAIL</bdi></td><td class=\"n\">301</td>",
		"<td>ERROR</td><td class=\"n\">301</td>",
		"<td>INFO</td><td class=\"n\">901</td>",
		"not stated 未注明</td><td class=\"n\">1</td>",
		"Not yet sealed 尚未封存</dt><dd>17 ",
		"from 2026-03-01T09:00:00Z to 2026-03-01T09:20:02Z",
		"act=AUTH.LOGIN.*",
		"c7116bb4</span> · Ed25519",
		"cc960e9e</span> · SM2 with SM3",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"<dd>1208 ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

func TestReportBoundsWhatItShows(t *testing.T) {
	page := reportOf(t, 600, nil, func(i int, e *veritrail.ComplianceEvent) {
		e.Action = fmt.Sprintf("APP.A%03d", i)
		if i == 0 {
			e.Object = map[string]string{"long": strings.Repeat("长", 5000)}
			e.Context = map[string]string{"unseen": "a\u202eb\u200bc\u0000\r\n"}
			for k := range 100 {
				e.Subject[fmt.Sprintf("k%02d", k)] = "v"
			}
		}
	})
	for _, want := range []string{
		strings.Repeat("长", 160) + "…",
		`a\u{202e}b\u{200b}c\u{0}\u{d}\u{a}`,
		`<span class="k">…</span> <bdi>&#43;85</bdi>`,
		"others 其他</bdi></td><td class=\"n\">400</td>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Contains(page, strings.Repeat("长", 161)) || strings.ContainsRune(page, '\u202e') {
		t.Error("a value was not cut, or a bidirectional override got through")
	}
}

func TestReportShowsLeavesItCannotRead(t *testing.T) {
	c := goldenConfig(t)
	e := goldenEvent(t, 2)
	e.Leaf, e.ID = []byte("<b>no event</b>"), "x-1"
	page := entry(t, writeCase(t, c, e, goldenEvent(t, 3)), ReportFile)
	for _, want := range []string{"unreadable 无法解析<span class=\"mono id\">x-1</span>", "无法解析</td><td class=\"n\">1</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Contains(page, "<b>no event") {
		t.Error("a leaf got into the page")
	}
}

func TestReadmeSaysTheSameInBothLanguages(t *testing.T) {
	readme := entry(t, goldenCase(t), ReadmeFile)
	english, chinese, ok := strings.Cut(readme, "\n# 证据案卷")
	if !ok {
		t.Fatal("no Chinese part")
	}
	chinese, _, _ = strings.Cut(chinese, "\n# check_event.py")
	for _, both := range []string{"openssl pkeyutl", "sm2.sig", "sed -n 1p", "veritrail verify case.zip", "pay.example.com/audit+c7116bb4+",
		"python3 check_event.py case.zip LEAF", "\n5. **", "`manifest.json`", "`report.html`", "2026-03-02T08:00:00Z"} {
		if e, c := strings.Count(english, both), strings.Count(chinese, both); e == 0 || e != c {
			t.Errorf("%q stands %d times in the English part and %d times in the Chinese", both, e, c)
		}
	}
	for line := range bytes.Lines([]byte(readme)) {
		if bytes.Contains(line, []byte("{{")) || bytes.Contains(line, []byte("<no value>")) {
			t.Errorf("left over: %s", line)
		}
	}
}
