// Package verify owns the checks an auditor runs without trusting whoever kept
// the trail: of a trail's directory (Trail), of its tiles as any C2SP client
// sees them (Tiles), and of a case handed over (Case). It follows RFC 6962 for
// the tree, and C2SP tlog-checkpoint and tlog-tiles for what is signed and
// stored; docs/design/verification.md lists every check and what none of them
// can find.
//
//	rep, err := verify.Trail(ctx, dir, verify.Options{Keys: keys})
//	if err != nil { … }            // not a trail, or ctx ended
//	if rep.Outcome != verify.Intact { … rep.Findings … }
//
// There are three outcomes. Contradicted: a checksum, proof or signature fails,
// so something was changed. CouldNotCheck: a file or a key is missing, or can't
// be read; that is no sign of tampering, and no proof of its absence. Intact is
// only what was checked whole.
//
// The package reads files and bytes handed to it. It never writes, never dials,
// and knows nothing of how events are recorded.
package verify

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"time"

	veritrail "github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/suite"
)

// Outcome is what a check came to. The greater one is the worse.
type Outcome int

// The outcomes.
const (
	Intact Outcome = iota
	CouldNotCheck
	Contradicted
)

var outcomeNames = [...]string{"intact", "could not check", "contradicted"}

func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return fmt.Sprintf("outcome %d", int(o))
	}
	return outcomeNames[o]
}

// MarshalText writes what String returns.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (o *Outcome) UnmarshalText(text []byte) error {
	for i, name := range outcomeNames {
		if name == string(text) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("outcome %.40q: want intact, could not check or contradicted", text)
}

// Options say what to trust and to compare with. The zero value checks what the
// evidence says of itself.
type Options struct {
	// Keys are the vkeys trusted to sign. When empty, those that come with the
	// evidence are taken: then the result says that the evidence agrees with
	// itself, not who made it (Report.KeysPinned is false).
	Keys []string
	// Checkpoints were kept outside of the trail, by whom it may concern. Only
	// they can show that a trail was rolled back or replaced.
	Checkpoints []Kept
	// Workers is how many goroutines hash; one a processor when 0.
	Workers int
	// Progress, when not nil, is called now and then by the goroutine that
	// called the check, with the bytes done and their total.
	Progress func(done, total int64)
}

// Kept is a checkpoint kept elsewhere.
type Kept struct {
	Name string // where it came from, as findings give it
	Note []byte
}

func (o *Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

func (o *Options) progress(done, total int64) {
	if o.Progress != nil {
		o.Progress(done, total)
	}
}

// The checks that a Finding can name. They are stable: programs act upon them.
const (
	leafChanged       = "leaf-changed"
	leafRemoved       = "leaf-removed"
	leafInserted      = "leaf-inserted"
	leafDuplicated    = "leaf-duplicated"
	leavesSwapped     = "leaves-swapped"
	fingerprintWrong  = "fingerprint-changed"
	segmentMissing    = "segment-missing"
	segmentTruncated  = "segment-truncated"
	segmentMisnamed   = "segment-misnamed"
	segmentOverlap    = "segment-overlap"
	segmentUnreadable = "segment-unreadable"
	headerDamaged     = "header-damaged"
	frameDamaged      = "frame-damaged"
	frameOrder        = "frame-order"
	linkBroken        = "link-broken"
	tailTorn          = "tail-torn"
	otherLog          = "other-log"
	identityUnread    = "identity-unreadable"
	rootMismatch      = "root-mismatch"
	sm3RootMismatch   = "sm3-root-mismatch"
	rootUnchecked     = "root-unchecked"
	tileChanged       = "tile-changed"
	tileMissing       = "tile-missing"
	bundleDamaged     = "bundle-damaged"
	bundleMissing     = "bundle-missing"
	checkpointMissing = "checkpoint-missing"
	checkpointDamaged = "checkpoint-damaged"
	checkpointForged  = "checkpoint-forged"
	checkpointOrigin  = "checkpoint-origin"
	checkpointPlace   = "checkpoint-misplaced"
	unknownKey        = "unknown-key"
	keysUnread        = "keys-unreadable"
	rolledBack        = "rolled-back"
	historyDiffers    = "history-differs"
	historyUnchecked  = "history-unchecked"
	caseDamaged       = "case-damaged"
	caseFileChanged   = "case-file-changed"
	proofMismatch     = "proof-mismatch"
	eventMalformed    = "event-malformed"
	eventIDDiffers    = "event-id-differs"
	timeBackwards     = "time-backwards"
)

// Finding is one thing a check found. One of outcome Intact is a remark.
type Finding struct {
	Outcome  Outcome
	Check    string // a stable code, as docs/design/verification.md lists them
	Segment  string // the file, as far as one is meant
	Offset   int64  // in that file
	Leaf     uint64 // the first leaf concerned, when HasLeaf
	LastLeaf uint64 // the last one
	HasLeaf  bool
	EventID  string // of Leaf, as the bytes found give it
	Detail   string
}

type findingJSON struct {
	Outcome  Outcome `json:"outcome"`
	Check    string  `json:"check"`
	Segment  string  `json:"segment,omitempty"`
	Offset   *int64  `json:"offset,omitempty"`
	Leaf     *uint64 `json:"leaf,omitempty"`
	LastLeaf *uint64 `json:"last_leaf,omitempty"`
	EventID  string  `json:"event_id,omitempty"`
	Detail   string  `json:"detail"`
}

// MarshalJSON leaves out the offset without a file, and leaves that are none:
// a 0 would look like the first leaf.
func (f Finding) MarshalJSON() ([]byte, error) {
	j := findingJSON{Outcome: f.Outcome, Check: f.Check, Segment: f.Segment, EventID: f.EventID, Detail: f.Detail}
	if f.Segment != "" {
		j.Offset = &f.Offset
	}
	if f.HasLeaf {
		j.Leaf, j.LastLeaf = &f.Leaf, &f.LastLeaf
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Finding) UnmarshalJSON(data []byte) error {
	var j findingJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*f = Finding{Outcome: j.Outcome, Check: j.Check, Segment: j.Segment, EventID: j.EventID, Detail: j.Detail}
	if j.Offset != nil {
		f.Offset = *j.Offset
	}
	if j.Leaf != nil && j.LastLeaf != nil {
		f.Leaf, f.LastLeaf, f.HasLeaf = *j.Leaf, *j.LastLeaf, true
	}
	return nil
}

// String is the finding in one line, the place before the problem.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: ", f.Outcome, f.Check)
	if f.Segment != "" {
		fmt.Fprintf(&b, "%s at %d: ", f.Segment, f.Offset)
	}
	switch {
	case f.HasLeaf && f.Leaf == f.LastLeaf:
		fmt.Fprintf(&b, "leaf %d: ", f.Leaf)
	case f.HasLeaf:
		fmt.Fprintf(&b, "leaves %d to %d: ", f.Leaf, f.LastLeaf)
	}
	if f.EventID != "" {
		fmt.Fprintf(&b, "event %s: ", f.EventID)
	}
	b.WriteString(f.Detail)
	return b.String()
}

// Kind says what was checked.
type Kind string

// The kinds of evidence.
const (
	KindTrail Kind = "trail"
	KindTiles Kind = "tiles"
	KindCase  Kind = "case"
)

// Report is what a check found.
type Report struct {
	Outcome    Outcome   `json:"outcome"` // the worst of the findings
	Kind       Kind      `json:"kind"`
	Origin     string    `json:"origin"`
	Instance   string    `json:"instance,omitempty"`
	Size       uint64    `json:"size"`   // leaves of the log, as far as found
	Sealed     uint64    `json:"sealed"` // those under the newest checkpoint that holds; the others are durable, not yet sealed
	Root       string    `json:"root,omitempty"`
	SM3Root    string    `json:"sm3_root,omitempty"` // base64, of the sealed leaves
	Digests    []string  `json:"digests"`
	Keys       []KeyUse  `json:"keys"`
	KeysPinned bool      `json:"keys_pinned"`
	Compared   []string  `json:"compared"` // the kept checkpoints that were compared and agree
	Segments   int       `json:"segments"`
	Frames     int       `json:"frames"`
	Events     uint64    `json:"events"` // leaves read
	Bytes      uint64    `json:"bytes"`  // of them
	Lost       uint64    `json:"lost"`   // events refused or not made durable, as the trail itself counts them
	FirstTime  time.Time `json:"first_time,omitzero"`
	LastTime   time.Time `json:"last_time,omitzero"`
	Findings   []Finding `json:"findings"`
	Omitted    int       `json:"omitted,omitempty"` // findings beyond maxFindings
	Elapsed    Duration  `json:"elapsed"`
}

// Duration is a time.Duration that JSON gives in seconds.
type Duration time.Duration

// MarshalJSON writes seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).Seconds())
}

// UnmarshalJSON reads seconds.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var s float64
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*d = Duration(s * float64(time.Second))
	return nil
}

// KeyUse is a key that was trusted, and whether a checkpoint bears its
// signature.
type KeyUse struct {
	VKey      string `json:"vkey"`
	Algorithm string `json:"algorithm"`
	KeyID     string `json:"key_id"`
	Signed    bool   `json:"signed"`
}

const maxFindings = 1000

// add keeps a finding. A full list gives up remarks for what weighs more.
func (r *Report) add(f Finding) {
	r.Outcome = max(r.Outcome, f.Outcome)
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, f)
		return
	}
	r.Omitted++
	last := len(r.Findings) - 1
	if r.Findings[last].Outcome < f.Outcome {
		r.Findings[last] = f
	}
}

func (r *Report) has(check string) bool {
	for i := range r.Findings {
		if r.Findings[i].Check == check {
			return true
		}
	}
	return false
}

// trust is the keys a check relies on.
type trust struct {
	keys   []checkpoint.Verifier
	pinned bool
	signed map[checkpoint.Signature]bool
}

func newTrust(vkeys []string) (*trust, error) {
	t := &trust{pinned: len(vkeys) > 0, signed: make(map[checkpoint.Signature]bool)}
	for i, text := range vkeys {
		v, err := checkpoint.ParseVerifier(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("trusted key %d: %w", i+1, err)
		}
		t.keys = append(t.keys, v)
	}
	return t, nil
}

// adopt takes the keys that come with the evidence, when none are pinned. What
// is wrong with them is a finding.
func (t *trust) adopt(rep *Report, text []byte, err error) {
	if t.pinned {
		return
	}
	if err == nil {
		t.keys, err = keys.ParseVKeys(text)
	}
	if err != nil {
		rep.add(Finding{Outcome: CouldNotCheck, Check: keysUnread, Detail: fmt.Sprintf("no key is known to check signatures with: %v", err)})
	}
}

// finish lists the keys in the report.
func (t *trust) finish(rep *Report) {
	rep.KeysPinned = t.pinned
	rep.Keys = []KeyUse{}
	for _, v := range t.keys {
		s := checkpoint.Signature{Name: v.Name(), Algorithm: v.Algorithm(), KeyID: v.KeyID()}
		rep.Keys = append(rep.Keys, KeyUse{VKey: v.String(), Algorithm: s.Algorithm, KeyID: s.KeyID, Signed: t.signed[s]})
	}
}

// opened is a checkpoint as read: what it says, and whether that is signed.
type opened struct {
	checkpoint.Checkpoint
	sigs []checkpoint.Signature
	err  error // of the signatures
	bad  error // the note can't be read at all
}

// open may be called by several goroutines at once.
func (t *trust) open(note []byte) opened {
	var o opened
	c, sigs, err := checkpoint.Open(note, t.keys)
	if err == nil {
		o.Checkpoint, o.sigs = c, sigs
		return o
	}
	o.err = err
	o.Checkpoint, o.bad = checkpoint.ParseUnverified(note)
	return o
}

func encodeRoot(h suite.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

// eventID is the id a leaf's bytes begin with, when it is a well-formed one:
// nothing else of a leaf may get into a report.
func eventID(leaf []byte) string {
	const prefix = `{"id":"`
	const end = len(prefix) + 36
	if len(leaf) <= end || string(leaf[:len(prefix)]) != prefix || leaf[end] != '"' {
		return ""
	}
	id, err := veritrail.ParseUUID(string(leaf[len(prefix):end]))
	if err != nil {
		return ""
	}
	return id.String()
}
