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
	sectionTotals  = 1 // events by action, kind of subject and severity; and by hour
	sectionHourly  = 2 // events by hour and all of those
	sectionBloom   = 3 // which values occur
)

// row is how many events have an action, a kind of subject and a severity, and
// perhaps an hour, in common.
type row struct {
	hour         int64
	action, kind uint32 // in the tally's lists
	severity     veritrail.Severity
	rowSum
}

func compareRows(x, y row) int {
	return cmp.Or(cmp.Compare(x.hour, y.hour), cmp.Compare(x.action, y.action), cmp.Compare(x.kind, y.kind), cmp.Compare(x.severity, y.severity))
}

// tally is a segment's events, counted.
type tally struct {
	actions, kinds []string // in order
	totals         []row    // without hours
	hours          []row    // with nothing but the hour
	hourly         []row
}

// marshalSummary is the summary of what was added.
func (b *builder) marshalSummary(id identity) ([]byte, error) {
	bundles := make([]byte, 0, 16*len(b.bundles))
	for _, s := range b.bundles {
		bundles = binary.BigEndian.AppendUint64(bundles, uint64(s.min))
		bundles = binary.BigEndian.AppendUint64(bundles, uint64(s.max))
	}
	t := b.tally()
	return marshalSidecar(kindSummary, id, bundles, t.appendTotals(nil), appendRows(nil, t.hourly), b.bloom())
}

// tally is the counts so far.
func (b *builder) tally() *tally {
	t := new(tally)
	if len(b.ids) == 0 {
		return t
	}
	t.kinds = slices.Sorted(slices.Values(b.names))
	actions := &b.groups[b.named[groupAction]]
	for v := range uint32(len(actions.terms)) {
		t.actions = append(t.actions, string(actions.value(v)))
	}
	slices.Sort(t.actions)
	ranks := make([]uint32, len(actions.terms))
	for v := range ranks {
		i, _ := slices.BinarySearch(t.actions, string(actions.value(uint32(v))))
		ranks[v] = uint32(i)
	}
	kinds := make([]uint32, len(b.names))
	for n, name := range b.names {
		i, _ := slices.BinarySearch(t.kinds, name)
		kinds[n] = uint32(i)
	}
	for k, sum := range b.rows {
		t.hourly = append(t.hourly, row{k.hour, ranks[k.action], kinds[k.kind], k.severity, sum})
	}
	slices.SortFunc(t.hourly, compareRows)
	t.totals = sums(t.hourly, func(r row) row { r.hour = 0; return r })
	t.hours = sums(t.hourly, func(r row) row { return row{hour: r.hour, rowSum: r.rowSum} })
	return t
}

// sums adds up the rows that are the same but for their numbers once reduce has
// been at them.
func sums(rows []row, reduce func(row) row) []row {
	all := make(map[row]rowSum)
	for _, r := range rows {
		key := reduce(r)
		key.rowSum = rowSum{}
		sum := all[key]
		sum.events += r.events
		sum.bytes += r.bytes
		all[key] = sum
	}
	out := make([]row, 0, len(all))
	for key, sum := range all {
		key.rowSum = sum
		out = append(out, key)
	}
	slices.SortFunc(out, compareRows)
	return out
}

func (t *tally) appendTotals(dst []byte) []byte {
	for _, list := range [...][]string{t.actions, t.kinds} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, s := range list {
			dst = appendText(dst, s)
		}
	}
	return appendRows(appendRows(dst, t.totals), t.hours)
}

// appendRows appends sorted rows.
func appendRows(dst []byte, rows []row) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(rows)))
	hour := int64(0)
	for i := range rows {
		r := &rows[i]
		dst = appendVarint(dst, r.hour-hour)
		dst = binary.AppendUvarint(dst, uint64(r.action))
		dst = binary.AppendUvarint(dst, uint64(r.kind))
		dst = append(dst, byte(r.severity))
		dst = binary.AppendUvarint(dst, r.events)
		dst = binary.AppendUvarint(dst, r.bytes)
		hour = r.hour
	}
	return dst
}

// rows reads what appendRows wrote.
func (d *decoder) rows(t *tally) (rows []row, err error) {
	hour := int64(0)
	for range d.count(6) {
		hour += d.varint()
		action, kind, severity := d.uvarint(), d.uvarint(), d.bytes(1)
		sum := rowSum{d.uvarint(), d.uvarint()}
		if d.bad || action >= uint64(max(1, len(t.actions))) || kind >= uint64(max(1, len(t.kinds))) || severity[0] > byte(veritrail.SeverityCritical) {
			return nil, sidecarError("counts: not what is written")
		}
		r := row{hour, uint32(action), uint32(kind), veritrail.Severity(severity[0]), sum}
		if len(rows) > 0 && compareRows(rows[len(rows)-1], r) >= 0 {
			return nil, sidecarError("counts: out of order")
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// parseTotals reads what appendTotals wrote.
func parseTotals(b []byte) (*tally, error) {
	d := decoder{b: b}
	t := new(tally)
	for _, list := range [...]*[]string{&t.actions, &t.kinds} {
		for range d.count(1) {
			*list = append(*list, d.text())
		}
	}
	var err error
	if t.totals, err = d.rows(t); err != nil {
		return nil, err
	}
	if t.hours, err = d.rows(t); err != nil {
		return nil, err
	}
	sorted := strictly(t.actions) && strictly(t.kinds)
	if d.bad || len(d.b) > 0 || !sorted || len(t.totals) > 0 && (len(t.actions) == 0 || len(t.kinds) == 0) {
		return nil, sidecarError("counts: not what is written")
	}
	return t, nil
}

// strictly tells whether texts are in order, and none is there twice.
func strictly(texts []string) bool {
	for i := 1; i < len(texts); i++ {
		if texts[i-1] >= texts[i] {
			return false
		}
	}
	return true
}

// tally reads the counts, those by the hour when they are asked for.
func (r *reader) tally(hourly bool) (*tally, error) {
	b, err := r.section(sectionTotals)
	if err != nil {
		return nil, err
	}
	t, err := parseTotals(b)
	if err != nil || !hourly {
		return t, err
	}
	if b, err = r.section(sectionHourly); err != nil {
		return nil, err
	}
	d := decoder{b: b}
	if t.hourly, err = d.rows(t); err == nil && (d.bad || len(d.b) > 0 || len(t.hourly) > 0 && len(t.totals) == 0) {
		err = sidecarError("counts: not what is written")
	}
	return t, err
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

// A Bloom filter says which values do not occur. It consists of lines of 512
// bits; a value is six bits of one line, so that a look is one read.
const (
	bloomLine    = 64 // bytes
	bloomPerItem = 12 // bits
)

func (b *builder) bloom() []byte {
	values := 0
	for i := range b.groups {
		values += len(b.groups[i].terms)
	}
	lines := uint64(values*bloomPerItem/(8*bloomLine) + 1)
	out := make([]byte, lines*bloomLine)
	for i := range b.groups {
		g := &b.groups[i]
		if g.part < partSubject {
			continue
		}
		for v := range uint32(len(g.terms)) {
			line, bits := bloomPlace(bloomHash(g.name, g.value(v)), lines)
			for _, bit := range bits {
				out[line*bloomLine+bit/8] |= 1 << (bit % 8)
			}
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
