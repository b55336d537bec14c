package veritrail

import (
	"math/bits"
	"time"
)

// AppendCanonical appends the canonical encoding of d to dst. d must have passed Validate and not have been changed
// since, and its ID and Timestamp must be set: the pairs are written as they stand. It allocates only to grow dst.
func (d *Draft) AppendCanonical(dst []byte) []byte {
	dst = append(dst, `{"id":"`...)
	dst = d.ID.Append(dst)
	dst = append(dst, `","ts":"`...)
	dst = appendTimestamp(dst, d.Timestamp)
	if d.Severity != SeverityUnset {
		dst = append(dst, `","sev":"`...)
		dst = append(dst, d.Severity.String()...)
	}
	dst = append(dst, `","sub":{`...)
	dst = appendPairs(dst, d.Subject)
	dst = append(dst, `},"act":"`...)
	dst = appendString(dst, d.Action)
	dst = append(dst, `","obj":{`...)
	dst = appendPairs(dst, d.Object)
	dst = append(dst, `},"ctx":{`...)
	dst = appendPairs(dst, d.Context)
	return append(dst, `}}`...)
}

func appendPairs(dst []byte, pairs Pairs) []byte {
	for i := range pairs {
		if i > 0 {
			dst = append(dst, ',', '"')
		} else {
			dst = append(dst, '"')
		}
		dst = appendString(dst, pairs[i].Key)
		dst = append(dst, `":"`...)
		dst = appendString(dst, pairs[i].Value)
		dst = append(dst, '"')
	}
	return dst
}

// appendTimestamp writes 2006-01-02T15:04:05.000000000Z.
func appendTimestamp(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	ns := uint(t.Nanosecond())

	var b [30]byte
	put2(b[0:], uint(year)/100)
	put2(b[2:], uint(year))
	b[4] = '-'
	put2(b[5:], uint(month))
	b[7] = '-'
	put2(b[8:], uint(day))
	b[10] = 'T'
	put2(b[11:], uint(hour))
	b[13] = ':'
	put2(b[14:], uint(minute))
	b[16] = ':'
	put2(b[17:], uint(second))
	b[19] = '.'
	for i := 28; i >= 20; i-- {
		b[i] = byte('0' + ns%10)
		ns /= 10
	}
	b[29] = 'Z'
	return append(dst, b[:]...)
}

func put2(b []byte, v uint) {
	_ = b[1]
	b[0], b[1] = byte('0'+v/10%10), byte('0'+v%10)
}

// appendString writes s as the content of a JSON string.
func appendString(dst []byte, s string) []byte {
	if isPlain(s) {
		return append(dst, s...)
	}
	return appendEscaped(dst, s)
}

// isPlain reports whether s needs no escape. It looks at words of s that overlap where its length is no multiple of
// theirs, and reads s rather than its fresh copy, for which the processor would have to wait.
func isPlain(s string) bool {
	n := len(s)
	switch {
	case n >= 8:
		marks := special(word(s[n-8:]))
		for ; len(s) > 8; s = s[8:] {
			marks |= special(word(s))
		}
		return marks == 0
	case n >= 4:
		return special(uint64(halfWord(s))|uint64(halfWord(s[n-4:]))<<32) == 0
	case n > 0:
		return !isSpecial(s[0]) && !isSpecial(s[n/2]) && !isSpecial(s[n-1])
	}
	return true
}

// word reads eight bytes of s, the first one lowest. The compiler makes it one load.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func halfWord(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if !isSpecial(c) {
			dst = append(dst, c)
			continue
		}
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0x0f])
		}
	}
	return dst
}

func isSpecial(c byte) bool { return c < 0x20 || c == '"' || c == '\\' }

const (
	eachByte = 0x0101010101010101
	topBits  = 0x8080808080808080
)

// special marks, with its top bit, the lowest byte of x that cannot stand raw in a JSON string. Bytes above the lowest
// one may be marked wrongly: the subtractions borrow.
func special(x uint64) uint64 {
	quote := x ^ '"'*eachByte
	slash := x ^ '\\'*eachByte
	return ((x-0x20*eachByte)&^x | (quote-eachByte)&^quote | (slash-eachByte)&^slash) & topBits
}

// lowest returns the index of the lowest marked byte.
func lowest(marks uint64) int { return bits.TrailingZeros64(marks) >> 3 }

// canonicalLen is the length of what AppendCanonical appends.
func (d *Draft) canonicalLen() int {
	n := len(`{"id":"","ts":"","sub":{},"act":"","obj":{},"ctx":{}}`) + 36 + 30 + stringLen(d.Action)
	if d.Severity != SeverityUnset {
		n += len(`"sev":"",`) + len(d.Severity.String())
	}
	for _, pairs := range [...]Pairs{d.Subject, d.Object, d.Context} {
		for i := range pairs {
			n += len(`"":""`) + stringLen(pairs[i].Key) + stringLen(pairs[i].Value)
		}
		n += max(0, len(pairs)-1)
	}
	return n
}

func stringLen(s string) int {
	n := len(s)
	for i := range len(s) {
		if c := s[i]; isSpecial(c) {
			switch c {
			case '"', '\\', '\b', '\t', '\n', '\f', '\r':
				n++
			default:
				n += 5
			}
		}
	}
	return n
}

// textLen is the number of bytes in the strings of d and around its pairs, before escaping.
func (d *Draft) textLen() int {
	n := len(d.Action)
	for _, pairs := range [...]Pairs{d.Subject, d.Object, d.Context} {
		for i := range pairs {
			n += len(`"":"",`) + len(pairs[i].Key) + len(pairs[i].Value)
		}
	}
	return n
}
