package veritrail

import "fmt"

// A UUID is the identity of an event: 128 bits as RFC 9562 lays them out. Any version is welcome.
type UUID [16]byte

// ParseUUID reads the 8-4-4-4-12 form in either letter case. Braces, the urn: prefix and the form without hyphens are
// not accepted, and the version and variant bits are not judged.
func ParseUUID(s string) (UUID, error) {
	u, ok := parseUUID(s)
	if !ok {
		return UUID{}, fmt.Errorf("uuid: want 8-4-4-4-12 hexadecimal digits, got %s", stringShape(s))
	}
	return u, nil
}

func parseUUID(s string) (u UUID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UUID{}, false
	}
	var bad byte
	for i := range u {
		at := uuidOffsets[i]
		hi, lo := hexValues[s[at]], hexValues[s[at+1]]
		bad |= hi | lo
		u[i] = hi<<4 | lo&0x0f
	}
	if bad > 0x0f {
		return UUID{}, false
	}
	return u, true
}

// IsZero reports whether u is the nil UUID, which stands for "not set".
func (u UUID) IsZero() bool { return u == UUID{} }

// String returns the lower-case 8-4-4-4-12 form.
func (u UUID) String() string {
	var buf [36]byte
	return string(u.Append(buf[:0]))
}

// Append appends the lower-case 8-4-4-4-12 form to dst.
func (u UUID) Append(dst []byte) []byte {
	var b [36]byte
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	for i, v := range u {
		at := uuidOffsets[i] & 0x3f
		pair := hexPairs[v]
		b[at], b[at+1] = byte(pair), byte(pair>>8)
	}
	return append(dst, b[:]...)
}

// hexPairs are the two digits of each byte, the first one lowest.
var hexPairs = func() (t [256]uint16) {
	for i := range t {
		t[i] = uint16(hexDigits[i>>4]) | uint16(hexDigits[i&0x0f])<<8
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// uuidOffsets is where each byte's two digits stand in the text form.
var uuidOffsets = [16]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// hexValues maps a digit to its value, and every other byte to 0xff.
var hexValues = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range 10 {
		t['0'+i] = byte(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = byte(10+i), byte(10+i)
	}
	return t
}()
