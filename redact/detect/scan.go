package detect

import "strings"

// A scan is one walk over one value. Each scanner is called at a byte that stopped the walk, may look at what is around
// it within bounds of its own, and returns where the walk goes on.
type scan struct {
	text   string
	off    uint32
	folded bool // text holds no look-alikes any more
	base   int
	out    []Finding
	steps  int // bytes looked at beyond the walk itself
	runEnd int // end of the last run that a scanner walked over without a finding
}

// Kinds of bytes that stop the walk.
const (
	kNone byte = iota
	kDigit
	kAt
	kColon
	kEqual
	kHyphen
	kUnderscore
	kSpace
	kJ
	kI
	kHan
	kWide
)

// Classes of bytes, as bits.
const (
	bDigit byte = 1 << iota
	bUpper
	bLower
	bHex
	bToken // base64url
	bLocal // e-mail, before the @

	bLetter = bUpper | bLower
	bAlnum  = bLetter | bDigit
)

var (
	kinds = makeKinds()
	bits  = makeBits()
)

func makeKinds() (t [256]byte) {
	for c := '0'; c <= '9'; c++ {
		t[c] = kDigit
	}
	for c := 0xe4; c <= 0xe9; c++ {
		t[c] = kHan
	}
	t['@'], t[':'], t['='], t['-'], t['_'], t[' '], t['J'], t['I'] = kAt, kColon, kEqual, kHyphen, kUnderscore, kSpace, kJ, kI
	// The lead bytes of what fold changes.
	t[0xc2], t[0xe2], t[0xe3], t[0xef] = kWide, kWide, kWide, kWide
	return t
}

func makeBits() (t [256]byte) {
	for c := '0'; c <= '9'; c++ {
		t[c] = bDigit | bHex | bToken | bLocal
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] = bLower | bToken | bLocal
		t[c-'a'+'A'] = bUpper | bToken | bLocal
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c] |= bHex
		t[c-'a'+'A'] |= bHex
	}
	t['-'], t['_'] = bToken|bLocal, bToken|bLocal
	for _, c := range "!#$%&*+/.?^{|}~" {
		t[c] |= bLocal
	}
	return t
}

// run walks over the text. It returns false, having found nothing, when the text has to be folded first.
func (s *scan) run() bool {
	text := s.text
	for i := 0; i < len(text); {
		switch kinds[text[i]] {
		case kNone:
			i++
		case kDigit:
			// Most runs of digits are short and stand alone: a counter, a part of a version, of a time or of a UUID.
			j := i + 1
			for j < len(text) && bits[text[j]]&bDigit != 0 {
				j++
			}
			i = s.digits(i, j)
		case kAt:
			i = s.at(i)
		case kColon:
			i = s.colon(i)
		case kEqual:
			s.assignment(i)
			i++
		case kHyphen:
			i = s.hyphen(i)
		case kUnderscore:
			i = s.underscore(i)
		case kSpace:
			if i >= 5 && (text[i-1]|0x20 == 'r' || text[i-1]|0x20 == 'c') {
				i = s.scheme(i)
			} else {
				i++
			}
		case kJ:
			if i >= 2 && text[i-1] == 'y' && text[i-2] == 'e' {
				i = s.jwt(i - 2)
			} else {
				i++
			}
		case kI:
			i = s.cloudKey(i)
		case kHan:
			if i+3 < len(text) && (bits[text[i+3]]&bUpper != 0 || text[i+3] == '.') {
				i = s.plate(i)
			} else {
				i += 3
			}
		case kWide:
			if !s.folded && folds(text[i:]) {
				s.out = s.out[:s.base]
				s.steps += i
				return false
			}
			i++
		}
	}
	return true
}

// folds tells whether text begins with a character that fold changes.
func folds(text string) bool {
	if len(text) < 2 {
		return false
	}
	if text[0] == 0xc2 {
		return foldRune(rune(text[1])) != 0
	}
	if len(text) < 3 {
		return false
	}
	return foldRune(rune(text[0]&0xf)<<12|rune(text[1]&0x3f)<<6|rune(text[2]&0x3f)) != 0
}

// found records a finding and returns its end.
func (s *scan) found(id classID, rule string, start, end int) int {
	if s.off&(1<<id) == 0 {
		f := Finding{classes[id].Class, rule, start, end}
		if n := len(s.out); n == s.base || s.out[n-1].End <= start {
			s.out = append(s.out, f)
		} else {
			s.out = merge(s.out, s.base, f)
		}
	}
	return end
}

// prev and next return the byte before i and at i, or 0 outside the text.
func (s *scan) prev(i int) byte {
	if i > 0 {
		return s.text[i-1]
	}
	return 0
}

func (s *scan) next(i int) byte {
	if i < len(s.text) {
		return s.text[i]
	}
	return 0
}

// while returns the end of the bytes from i on that are of one of the classes in mask, limit at most.
func (s *scan) while(i int, mask byte, limit int) int {
	end := min(len(s.text), i+limit)
	j := i
	for j < end && bits[s.text[j]]&mask != 0 {
		j++
	}
	s.steps += j - i
	return j
}

// back returns the begin of the bytes before i that are of one of the classes in mask, limit at most.
func (s *scan) back(i int, mask byte, limit int) int {
	end := max(0, i-limit)
	j := i
	for j > end && bits[s.text[j-1]]&mask != 0 {
		j--
	}
	s.steps += i - j
	return j
}

// contextBytes is how far before a value a word that explains it may stand.
const contextBytes = 32

// context tells whether one of words, in lower case, stands shortly before i.
func (s *scan) context(i int, words ...string) bool {
	from := max(0, i-contextBytes)
	s.steps += i - from
	var buf [contextBytes]byte
	n := copy(buf[:], s.text[from:i])
	for j, c := range buf[:n] {
		if c >= 'A' && c <= 'Z' {
			buf[j] = c | 0x20
		}
	}
	for _, w := range words {
		if containsBytes(buf[:n], w) {
			return true
		}
	}
	return false
}

func containsBytes(b []byte, w string) bool {
	for i := 0; i+len(w) <= len(b); i++ {
		if string(b[i:i+len(w)]) == w {
			return true
		}
	}
	return false
}

// hasPrefixFold tells whether s begins with prefix, which is in lower case, whatever the case of its letters.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
