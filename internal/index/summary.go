package index

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/veritrail/veritrail"
)

// The sections of a summary, the sidecar that every closed segment keeps.
const (
	sectionBundles = 0 // the time of each bundle's events
	sectionCounts  = 1 // events by hour, action, kind of subject, severity
	sectionBloom   = 2 // which values occur
)

// row is how many events have an hour, an action, a kind of subject and a
// severity in common.
type row struct {
	hour         int64
	action, kind string
	severity     veritrail.Severity
	rowSum
}

// marshalSummary is the summary of what was added.
func (b *builder) marshalSummary(id identity) ([]byte, error) {
	bundles := make([]byte, 0, 16*len(b.bundles))
	for _, s := range b.bundles {
		bundles = binary.BigEndian.AppendUint64(bundles, uint64(s.min))
		bundles = binary.BigEndian.AppendUint64(bundles, uint64(s.max))
	}
	return marshalSidecar(kindSummary, id, bundles, appendRows(nil, b.rowsNow()), b.bloom())
}

// rowsNow is the counts so far.
func (b *builder) rowsNow() []row {
	rows := make([]row, 0, len(b.rows))
	for k, sum := range b.rows {
		rows = append(rows, row{k.hour, string(b.value(&b.terms[k.action])), b.names[k.kind], k.severity, sum})
	}
	slices.SortFunc(rows, compareRows)
	return rows
}

func compareRows(x, y row) int {
	return cmp.Or(cmp.Compare(x.hour, y.hour), cmp.Compare(x.action, y.action), cmp.Compare(x.kind, y.kind), cmp.Compare(x.severity, y.severity))
}

// appendRows appends sorted rows: the actions and kinds once, then the rows
// with their numbers.
func appendRows(dst []byte, rows []row) []byte {
	var actions, kinds []string
	for i := range rows {
		actions, kinds = append(actions, rows[i].action), append(kinds, rows[i].kind)
	}
	lists := [2][]string{actions, kinds}
	for i := range lists {
		slices.Sort(lists[i])
		lists[i] = slices.Compact(lists[i])
		dst = binary.AppendUvarint(dst, uint64(len(lists[i])))
		for _, s := range lists[i] {
			dst = appendText(dst, s)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(rows)))
	hour := int64(0)
	for i := range rows {
		r := &rows[i]
		action, _ := slices.BinarySearch(lists[0], r.action)
		kind, _ := slices.BinarySearch(lists[1], r.kind)
		dst = appendVarint(dst, r.hour-hour)
		dst = binary.AppendUvarint(dst, uint64(action))
		dst = binary.AppendUvarint(dst, uint64(kind))
		dst = append(dst, byte(r.severity))
		dst = binary.AppendUvarint(dst, r.events)
		dst = binary.AppendUvarint(dst, r.bytes)
		hour = r.hour
	}
	return dst
}

// parseRows reads what appendRows wrote.
func parseRows(b []byte) ([]row, error) {
	d := decoder{b: b}
	var lists [2][]string
	for i := range lists {
		for range d.count(1) {
			lists[i] = append(lists[i], d.text())
		}
	}
	var rows []row
	hour := int64(0)
	for range d.count(6) {
		hour += d.varint()
		action, kind, severity := d.uvarint(), d.uvarint(), d.bytes(1)
		sum := rowSum{d.uvarint(), d.uvarint()}
		if d.bad || action >= uint64(len(lists[0])) || kind >= uint64(len(lists[1])) || severity[0] > byte(veritrail.SeverityCritical) {
			return nil, sidecarError("counts: not what is written")
		}
		r := row{hour, lists[0][action], lists[1][kind], veritrail.Severity(severity[0]), sum}
		if len(rows) > 0 && compareRows(rows[len(rows)-1], r) >= 0 {
			return nil, sidecarError("counts: out of order")
		}
		rows = append(rows, r)
	}
	if d.bad || len(d.b) > 0 {
		return nil, sidecarError("counts: not what is written")
	}
	return rows, nil
}

// spans reads the time of each bundle.
func (r *reader) spans() ([]span, error) {
	bundles := (r.leaves + 255) / 256
	if uint64(r.sections[sectionBundles]) != 16*bundles {
		return nil, sidecarError("%d bytes for the times of %d bundles", r.sections[sectionBundles], bundles)
	}
	b, err := r.section(sectionBundles)
	if err != nil {
		return nil, err
	}
	out := make([]span, bundles)
	for i := range out {
		out[i] = span{int64(binary.BigEndian.Uint64(b[16*i:])), int64(binary.BigEndian.Uint64(b[16*i+8:]))}
	}
	return out, nil
}

func (r *reader) rows() ([]row, error) {
	b, err := r.section(sectionCounts)
	if err != nil {
		return nil, err
	}
	return parseRows(b)
}

// A Bloom filter says which values do not occur. It consists of lines of 512
// bits; a value is six bits of one line, so that a look is one read.
const (
	bloomLine    = 64 // bytes
	bloomPerItem = 12 // bits
)

func (b *builder) bloom() []byte {
	lines := uint64(len(b.terms)*bloomPerItem/(8*bloomLine) + 1)
	out := make([]byte, lines*bloomLine)
	for i := range b.terms {
		t := &b.terms[i]
		if b.groups[t.group].part < partSubject {
			continue
		}
		line, bits := bloomPlace(bloomHash(b.groups[t.group].name, b.value(t)), lines)
		for _, bit := range bits {
			out[line*bloomLine+bit/8] |= 1 << (bit % 8)
		}
	}
	return out
}

// bloomHash is FNV-1a over the name, a byte 0xff and the value, mixed as
// MurmurHash3 ends.
func bloomHash[V string | []byte](name string, value V) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	h = (h ^ 0xff) * 1099511628211
	for i := range len(value) {
		h = (h ^ uint64(value[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

// bloomPlace is the line of a hash, by its upper half, and the bits in it.
func bloomPlace(h, lines uint64) (line uint64, bits [6]uint64) {
	line = (h >> 32) * lines >> 32
	h *= 0x9e3779b97f4a7c15
	for i := range bits {
		bits[i] = h >> (10 + 9*i) & 511
	}
	return line, bits
}

// mayHave tells whether a value of sub, obj or ctx may occur.
func (r *reader) mayHave(name, value string) (bool, error) {
	lines := uint64(r.sections[sectionBloom]) / bloomLine
	if lines == 0 || uint64(r.sections[sectionBloom])%bloomLine != 0 {
		return false, sidecarError("Bloom filter of %d bytes", r.sections[sectionBloom])
	}
	line, bits := bloomPlace(bloomHash(name, value), lines)
	b, err := r.read(sectionBloom, int64(line)*bloomLine, bloomLine)
	if err != nil {
		return false, err
	}
	for _, bit := range bits {
		if b[bit/8]&(1<<(bit%8)) == 0 {
			return false, nil
		}
	}
	return true, nil
}
