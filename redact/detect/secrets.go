package detect

import (
	"encoding/base64"
	"math"
	"strings"
)

// colon looks at what a colon may belong to: user info in a URL, an assignment, an IPv6 address.
func (s *scan) colon(i int) int {
	if s.next(i+1) == '/' && s.next(i+2) == '/' {
		return s.userinfo(i)
	}
	if b := s.next(i + 1); bits[b]&bHex != 0 || b == ':' {
		if end := s.ipv6(i); end > i {
			return end
		}
	}
	if bits[s.prev(i)]&bDigit == 0 {
		s.assignment(i)
	}
	return i + 1
}

// userinfo looks at the authority of a URL behind the "://" at i.
func (s *scan) userinfo(i int) int {
	start, at, colon := i+3, -1, false
	j := start
	for ; j < len(s.text); j++ {
		c := s.text[j]
		if c == '/' || c == '?' || c == '#' || c <= ' ' || c == '"' || c == '\'' || c == '<' || c == '>' {
			break
		}
		if c == '@' {
			at = j
		} else if c == ':' && at < 0 {
			colon = true
		}
	}
	s.steps += j - i
	if at > start && colon {
		s.found(cURLUserinfo, "url-userinfo", start, at)
	}
	return i + 3
}

// hyphen looks at what has a hyphen in its fixed part: private keys and some tokens.
func (s *scan) hyphen(i int) int {
	text := s.text
	if strings.HasPrefix(text[i:], "-----BEGIN ") {
		return s.privateKey(i)
	}
	if i >= 2 && text[i-2] == 's' && text[i-1] == 'k' {
		return s.token(i-2, "openai", "sk-", 20)
	}
	if i >= 4 && text[i-4:i-1] == "xox" {
		return s.token(i-4, "slack", text[i-4:i+1], 20)
	}
	if i >= 5 && text[i-5:i] == "glpat" {
		return s.token(i-5, "gitlab", "glpat-", 20)
	}
	return i + 1
}

// underscore looks at tokens that have an underscore behind their fixed part.
func (s *scan) underscore(i int) int {
	text := s.text
	if i < 3 {
		return i + 1
	}
	switch text[i-3 : i] {
	case "ghp", "gho", "ghu", "ghs", "ghr":
		return s.token(i-3, "github", text[i-3:i+1], 36)
	case "npm":
		return s.token(i-3, "npm", "npm_", 36)
	case "pat":
		if i >= 10 && text[i-10:i] == "github_pat" {
			return s.token(i-10, "github", "github_pat_", 40)
		}
	case "ive", "est":
		if i >= 7 {
			switch text[i-7 : i] {
			case "sk_live", "sk_test", "rk_live", "rk_test":
				return s.token(i-7, "stripe", text[i-7:i+1], 16)
			}
		}
	}
	return i + 1
}

// cloudKey looks at access keys around the capital I at i.
func (s *scan) cloudKey(i int) int {
	text := s.text
	if i >= 2 && i+1 < len(text) {
		switch text[i-2 : i+2] {
		case "AKIA", "ASIA":
			if j := s.while(i+2, bUpper|bDigit, 17); j-(i+2) == 16 && s.delimited(i-2, j) {
				return s.found(cAPIKey, "aws", i-2, j)
			}
		case "AKID":
			return s.token(i-2, "tencent", "AKID", 32)
		}
	}
	if i >= 3 && text[i-3:i+1] == "LTAI" {
		return s.token(i-3, "aliyun", "LTAI", 12)
	}
	if i >= 1 && i+2 < len(text) && text[i-1:i+3] == "AIza" {
		return s.token(i-1, "google", "AIza", 35)
	}
	return i + 1
}

// minEntropy is what a random token has at least, in bits a character; words have less at this length.
const minEntropy = 3.0

// token looks at a token that begins with head at start and has at least n more characters.
func (s *scan) token(start int, rule, head string, n int) int {
	body := start + len(head)
	if bits[s.prev(start)]&bAlnum != 0 || s.prev(start) == '-' || s.prev(start) == '_' || body <= s.runEnd {
		return body
	}
	end := s.while(body, bToken, len(s.text))
	s.runEnd = end
	if end-body < n || entropy(s.text[body:end]) < minEntropy || !s.hasDigit(body, end) {
		return body
	}
	return s.found(cAPIKey, rule, start, end)
}

func (s *scan) hasDigit(i, j int) bool {
	for ; i < j; i++ {
		if bits[s.text[i]]&bDigit != 0 {
			return true
		}
	}
	return false
}

func (s *scan) delimited(i, j int) bool {
	return bits[s.prev(i)]&bAlnum == 0 && bits[s.next(j)]&bAlnum == 0
}

// entropy is Shannon's, in bits a byte, of the first bytes of s.
func entropy(s string) float64 {
	s = s[:min(len(s), 128)]
	var count [256]uint8
	for i := range len(s) {
		count[s[i]]++
	}
	e := 0.0
	for i := range len(s) {
		e -= math.Log2(float64(count[s[i]])/float64(len(s))) / float64(len(s))
	}
	return e
}

// privateKey looks at a block of RFC 7468 that begins at i. A block without an end goes on to the end of the value.
func (s *scan) privateKey(i int) int {
	const begin, tail = "-----BEGIN ", "PRIVATE KEY"
	line := s.text[i+len(begin) : min(len(s.text), i+len(begin)+64)]
	k := strings.Index(line, "-----")
	if k < 0 || !strings.Contains(line[:k], tail) {
		return i + len(begin)
	}
	from := i + len(begin) + k
	end := strings.Index(s.text[from:], "-----END ")
	if end < 0 {
		end = len(s.text)
	} else {
		end += from + len("-----END ")
		if close := strings.Index(s.text[end:min(len(s.text), end+64)], "-----"); close >= 0 {
			end += close + len("-----")
		}
	}
	s.steps += end - i
	return s.found(cPrivateKey, "private-key", i, end)
}

// jwt looks at three parts in base64url that begin at i. The first one has to decode to an object with "alg".
func (s *scan) jwt(i int) int {
	next := i + 3
	if b := s.prev(i); bits[b]&bToken != 0 || i < s.runEnd {
		return next
	}
	var ends [3]int
	p := i
	for part := range ends {
		p = s.while(p, bToken, len(s.text))
		ends[part] = p
		if part < 2 {
			if s.next(p) != '.' {
				s.runEnd = p
				return next
			}
			p++
		}
	}
	if ends[1] == ends[0]+1 {
		return next
	}
	var buf [768]byte
	head := s.text[i:min(ends[0], i+1024)]
	n := decodePrefix(buf[:], head)
	if !containsBytes(buf[:n], `"alg"`) {
		return next
	}
	clear(buf[:n])
	return s.found(cJWT, "jwt", i, ends[2])
}

// decodePrefix decodes the whole quanta at the begin of s, and what is left of it when it is of valid length.
func decodePrefix(dst []byte, s string) int {
	var src [1024]byte
	k := copy(src[:], s)
	if k%4 == 1 {
		k--
	}
	n, err := base64.RawURLEncoding.Decode(dst, src[:k])
	if err != nil {
		return 0
	}
	return n
}

// scheme looks at the credentials behind an authorization scheme that ends before the space at i.
func (s *scan) scheme(i int) int {
	start := s.back(i, bLetter, 7)
	j := i + 1
	for j < len(s.text) && (bits[s.text[j]]&bToken != 0 || strings.IndexByte("./+~=", s.text[j]) >= 0) {
		j++
	}
	s.steps += j - i
	value := s.text[i+1 : j]
	switch {
	case strings.EqualFold(s.text[start:i], "bearer"):
		if len(value) >= 20 || len(value) >= 8 && s.hasDigit(i+1, j) {
			s.found(cCredential, "bearer", i+1, j)
		}
	case strings.EqualFold(s.text[start:i], "basic"):
		var src [1024]byte
		var plain [768]byte
		n, err := base64.StdEncoding.Decode(plain[:], src[:copy(src[:len(src)&^3], value)])
		if err == nil && containsBytes(plain[:n], ":") {
			s.found(cCredential, "basic", i+1, j)
		}
		clear(plain[:])
	}
	return i + 1
}

// Kinds of keys in front of a colon or an equals sign.
type assignKind uint8

const (
	aNone assignKind = iota
	aPassword
	aSecret
	aName
	aAddress
)

var assignKeys = map[string]assignKind{
	"password": aPassword, "passwd": aPassword, "pwd": aPassword, "passphrase": aPassword,
	"secret": aSecret, "token": aSecret, "apikey": aSecret, "accesskey": aSecret, "secretkey": aSecret, "key": aSecret,
	"secretaccesskey": aSecret, "privatekey": aSecret, "clientsecret": aSecret, "accesstoken": aSecret, "refreshtoken": aSecret,
	"authtoken": aSecret, "credential": aSecret,
	"name": aName, "realname": aName, "fullname": aName,
	"address": aAddress, "addr": aAddress,
}

// assignment looks at the word in front of the colon or equals sign at i, and at the value behind it.
func (s *scan) assignment(i int) {
	text := s.text
	j := i
	quoted := j > 0 && (text[j-1] == '"' || text[j-1] == '\'')
	if quoted {
		j--
		if j > 0 && text[j-1] == '\\' {
			j--
		}
	}
	if j == 0 {
		return
	}
	kind := aNone
	if text[j-1] >= 0x80 {
		switch before := text[max(0, j-12):j]; {
		case strings.HasSuffix(before, "密码"), strings.HasSuffix(before, "口令"):
			kind = aPassword
		case strings.HasSuffix(before, "姓名"), strings.HasSuffix(before, "户名"), strings.HasSuffix(before, "联系人"):
			kind = aName
		case strings.HasSuffix(before, "地址"), strings.HasSuffix(before, "住址"):
			kind = aAddress
		}
	} else {
		switch text[j-1] | 0x20 {
		case 'd', 'e', 't', 'n', 'y', 'l', 's', 'r':
		default:
			return
		}
		start := s.back(j, bToken, 33)
		var buf [64]byte
		folded, words, n := foldKey(buf[:0], text[start:j])
		for k := range n {
			if kind = assignKeys[string(folded[words[k]:])]; kind != aNone {
				if k > 0 && (kind == aName || kind == aAddress) {
					kind = aNone
				}
				break
			}
		}
	}
	if kind != aNone {
		s.assigned(kind, i, quoted)
	}
}

// maxAssigned bounds a value behind a key, in bytes, when no quote ends it.
const maxAssigned = 256

func (s *scan) assigned(kind assignKind, i int, json bool) {
	text := s.text
	equal := text[i] == '='
	p := i + 1
	for k := 0; k < 3 && s.next(p) == ' '; k++ {
		p++
	}
	if s.next(p) == '\\' {
		p++
	}
	var quote byte
	if c := s.next(p); c == '"' || c == '\'' {
		quote = c
		p++
	}
	end := p
	for end < len(text) && (quote != 0 || end-p < maxAssigned) {
		c := text[end]
		if quote != 0 {
			if c == quote {
				break
			}
			if c == '\\' && end+1 < len(text) {
				if text[end+1] == quote && text[p-2] == '\\' {
					break
				}
				end++
			}
		} else if c < ' ' || c == '"' || c == ';' || c == ',' && kind != aPassword || c == ' ' && kind != aName && kind != aAddress || c == '&' && equal ||
			c == '}' || strings.HasPrefix(text[end:], "，") || strings.HasPrefix(text[end:], "。") || strings.HasPrefix(text[end:], "；") || strings.HasPrefix(text[end:], "、") {
			break
		}
		end++
	}
	end = min(end, len(text))
	s.steps += end - i
	value := text[p:end]
	switch kind {
	case aPassword:
		if json && quote != 0 && value != "" || equal && len(value) >= 4 || len(value) >= 4 && mixedText(value) {
			if !placeholder(value) {
				s.found(cCredential, "assignment", p, end)
			}
		}
	case aSecret:
		if len(value) >= 8 && entropy(value) >= 2.8 && mixedText(value) && !placeholder(value) {
			s.found(cCredential, "assignment", p, end)
		}
	case aName:
		if n := personName(value); n > 0 {
			s.found(cName, "name-marker", p, p+n)
		}
	case aAddress:
		value = strings.TrimRight(value, " ")
		if len(value) >= 9 && (value[0] >= 0x80 || s.hasDigit(p, end) && strings.Contains(value, " ")) {
			s.found(cAddress, "address-marker", p, p+len(value))
		}
	}
}

// placeholder tells whether v stands for a value that is not there. What only looks encrypted is none: anybody can
// write such a beginning in front of a password.
func placeholder(v string) bool {
	switch v {
	case "null", "nil", "none", "true", "false", "undefined", "<nil>", "[redacted]", "[REDACTED]":
		return true
	}
	return strings.Trim(v, "*") == ""
}

// mixedText tells whether v holds characters of two kinds, as words do not.
func mixedText(v string) bool {
	var seen byte
	for i := range len(v) {
		switch b := bits[v[i]]; {
		case b&bDigit != 0:
			seen |= 1
		case b&bLower != 0:
			seen |= 2
		case b&bUpper != 0 && i > 0:
			seen |= 4
		case b&bLetter == 0 && i < len(v)-1:
			seen |= 8
		}
	}
	return seen&(seen-1) != 0
}

// personName returns the length of the name at the begin of v: two to four Han characters, or capitalised words.
func personName(v string) int {
	han, n := 0, 0
	for n+3 <= len(v) && v[n] >= 0xe3 && v[n] <= 0xe9 {
		han++
		n += 3
		if n+3 < len(v) && v[n] == '.' && v[n+1] >= 0xe3 {
			n++
			han = 1
		}
	}
	if n > 0 {
		if han >= 2 && han <= 6 {
			return n
		}
		return 0
	}
	words := 0
	for n < len(v) && bits[v[n]]&bUpper != 0 {
		k := n + 1
		for k < len(v) && (bits[v[k]]&bLetter != 0 || v[k] == '\'' || v[k] == '-') {
			k++
		}
		words++
		n = k
		if words == 4 || k+1 >= len(v) || v[k] != ' ' || bits[v[k+1]]&bUpper == 0 {
			break
		}
		n++
	}
	if words >= 2 {
		return n
	}
	return 0
}
