package detect

// ipv4 looks at an address that begins with the digits text[i:j].
func (s *scan) ipv4(i, j int) int {
	text := s.text
	if !s.open(i) || s.prev(i) == '/' && i >= 2 && bits[text[i-2]]&bAlnum != 0 {
		return 0
	}
	if !octet(text[i:j]) {
		return 0
	}
	end := j
	for range 3 {
		if s.next(end) != '.' {
			return 0
		}
		k := s.while(end+1, bDigit, 4)
		if !octet(text[end+1 : k]) {
			return 0
		}
		end = k
	}
	if !s.closed(end) || s.context(i, "version", "ver ", "ver.", "版本") {
		return 0
	}
	return s.found(cIPv4, "ipv4", i, end)
}

// octet tells whether n is a number up to 255 without a leading zero.
func octet(n string) bool {
	switch len(n) {
	case 1:
		return true
	case 2:
		return n[0] != '0'
	case 3:
		return n[0] == '1' || n[0] == '2' && (n[1] < '5' || n[1] == '5' && n[2] <= '5')
	}
	return false
}

// ipv6 looks at an address of which the first colon is at i.
func (s *scan) ipv6(i int) int {
	text := s.text
	start := s.back(i, bHex, 5)
	if i-start > 4 || start > 0 && (bits[text[start-1]]&bAlnum != 0 || text[start-1] == ':' || text[start-1] == '.') {
		return 0
	}
	groups, pairs, gap := 0, 0, false
	p, end := start, start
	if i == start {
		if s.next(i+1) != ':' {
			return 0
		}
		gap, p, end = true, i+2, i+2
	}
	for {
		k := s.while(p, bHex, 5)
		n := k - p
		if n == 0 {
			break // behind "::"
		}
		if n > 4 {
			return 0
		}
		if s.next(k) == '.' { // an IPv4 address at the end
			if end = s.dotted(p); end == 0 {
				return 0
			}
			groups += 2
			break
		}
		groups++
		if n == 2 {
			pairs++
		}
		end = k
		if s.next(k) != ':' || groups > 8 {
			break
		}
		p = k + 1
		if s.next(p) == ':' {
			if gap {
				return 0
			}
			gap = true
			p++
			end = p
		} else if bits[s.next(p)]&bHex == 0 {
			break
		}
	}
	// Eight pairs of digits are a hardware address, or a part of a fingerprint.
	if !gap && (groups != 8 || pairs == 8) || gap && (groups == 0 || groups > 7) {
		return 0
	}
	if b := s.next(end); bits[b]&bAlnum != 0 || b == ':' && (bits[s.next(end+1)]&bAlnum != 0 || s.next(end+1) == ':') || b == '_' {
		return 0
	}
	return s.found(cIPv6, "ipv6", start, end)
}

// dotted returns the end of the IPv4 address at i, 0 when there is none.
func (s *scan) dotted(i int) int {
	for part := range 4 {
		k := s.while(i, bDigit, 4)
		if !octet(s.text[i:k]) {
			return 0
		}
		if part == 3 {
			return k
		}
		if s.next(k) != '.' {
			return 0
		}
		i = k + 1
	}
	return 0
}

const (
	maxLocal  = 64  // RFC 5321, section 4.5.3.1.1
	maxDomain = 255 // and .2
)

// at looks at an e-mail address around the @ at i.
func (s *scan) at(i int) int {
	text := s.text
	if n := len(s.out); n > s.base && s.out[n-1].End == i && s.out[n-1].Class == URLUserinfo {
		return i + 1 // what follows is the host of a URL
	}
	start := s.back(i, bLocal, maxLocal)
	for start < i && (text[start] == '.' || text[start] == '/' || text[start] == '=' || text[start] == '&' || text[start] == '?') {
		start++
	}
	if start == i || text[i-1] == '.' {
		return i + 1
	}
	// Labels of letters, digits and hyphens; the last one of letters.
	p, end, dots := i+1, 0, 0
	limit := min(len(text), i+1+maxDomain)
	for p < limit {
		k := p
		letters := true
		for k < limit && (bits[text[k]]&bAlnum != 0 || text[k] == '-') {
			letters = letters && bits[text[k]]&bLetter != 0
			k++
		}
		if k == p || text[p] == '-' || k-p > 63 {
			break
		}
		if dots > 0 && (letters && k-p >= 2 || hasPrefixFold(text[p:k], "xn--")) {
			end = k
		}
		if s.next(k) != '.' {
			break
		}
		dots++
		p = k + 1
	}
	s.steps += p - i
	if end == 0 {
		return i + 1
	}
	return s.found(cEmail, "email", start, end)
}

// ibanLengths are those of the registry of ISO 13616.
var ibanLengths = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
	"CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
	"FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
	"IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20,
	"LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18,
	"NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31,
	"SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29,
	"VA": 22, "VG": 24, "XK": 20, "YE": 30,
}

// iban looks at an account number that begins at i, in one run or in groups of four.
func (s *scan) iban(i int) int {
	if i+4 > len(s.text) {
		return 0
	}
	length := ibanLengths[s.text[i:i+2]]
	if length == 0 || !s.open(i) || bits[s.text[i+2]]&bDigit == 0 || bits[s.text[i+3]]&bDigit == 0 {
		return 0
	}
	var plain [34]byte
	n, j := 0, i
	for n < length && j < len(s.text) {
		c := s.text[j]
		if n > 0 && n%4 == 0 && (c == ' ' || c == '-') && bits[s.next(j+1)]&bAlnum != 0 {
			j++
			continue
		}
		if bits[c]&(bUpper|bDigit) == 0 {
			break
		}
		plain[n] = c
		n++
		j++
	}
	s.steps += j - i
	if n != length || !s.closed(j) {
		return 0
	}
	sum := 0
	for k := range n {
		c := plain[(k+4)%n]
		if bits[c]&bDigit != 0 {
			sum = (sum*10 + int(c-'0')) % 97
		} else {
			sum = (sum*100 + int(c-'A') + 10) % 97
		}
	}
	if sum != 1 {
		return 0
	}
	return s.found(cIBAN, "iban", i, j)
}
