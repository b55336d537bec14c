package detect

// maxGroups and maxDigits bound a number that is written in groups.
const (
	maxGroups = 19
	maxDigits = 19
)

// A chain is a number in groups of digits, all parted by the same separator.
type chain struct {
	sep    byte
	n      int
	len    [maxGroups]int
	end    [maxGroups]int
	digits [maxDigits]byte
	total  int
	after  int // digits of the group that follows the chain behind sep, 0 when none does
}

// digits looks at the run of digits text[i:j].
func (s *scan) digits(i, j int) int {
	s.steps += j - i
	n, text := j-i, s.text
	before, after := s.prev(i), s.next(j)
	if bits[before]&bLetter != 0 || bits[after]&bLetter != 0 {
		return s.mixed(i, j)
	}
	if n <= 3 && after == '.' {
		if end := s.ipv4(i, j); end > 0 {
			return end
		}
	}
	grouped := (after == ' ' || after == '-' || after == '.') && j+1 < len(text) && bits[text[j+1]]&bDigit != 0
	if text[i] == '0' || before == '(' {
		if end := s.landline(i, j); end > 0 {
			return end
		}
	}
	if !grouped {
		if n < 8 {
			return j
		}
		if n == 9 && s.context(i, "ssn", "social security") {
			if ssn(text[i:i+3], text[i+3:i+5], text[i+5:j]) {
				return s.found(cUSSSN, "us-ssn-context", i, j)
			}
		}
	}
	if before == '.' && i >= 2 && bits[text[i-2]]&bDigit != 0 {
		return j // the fraction of a number
	}
	start := i
	if n >= 13 && text[i] == '8' && text[i+1] == '6' && n == 13 {
		start = i + 2
	} else if n == 15 && text[i:i+4] == "0086" {
		start = i + 4
	}
	if start != i && mobile(text[start:j]) && s.closed(j) && s.open(i) {
		return s.found(cPhone, "cn-mobile", start, j)
	}
	if n >= 8 {
		if end := s.single(i, j, before); end > 0 {
			return end
		}
	}
	if grouped && n <= 13 {
		if end := s.grouped(i); end > 0 {
			return end
		}
	}
	return j
}

// open tells whether a number may begin at i, as far as what stands before it goes.
func (s *scan) open(i int) bool {
	switch b := s.prev(i); b {
	case '-':
		// Behind a hyphen a number may be a part of a UUID or of an order number.
		return i < 2 || bits[s.text[i-2]]&bHex == 0
	case '.':
		return i < 2 || bits[s.text[i-2]]&bDigit == 0
	default:
		return bits[b]&bAlnum == 0
	}
}

// closed tells whether a number may end at i.
func (s *scan) closed(i int) bool {
	switch b := s.next(i); b {
	case '-':
		return bits[s.next(i+1)]&bHex == 0
	case '.':
		return bits[s.next(i+1)]&bDigit == 0
	default:
		return bits[b]&bAlnum == 0
	}
}

// single looks at a run of digits as one number.
func (s *scan) single(i, j int, before byte) int {
	number := s.text[i:j]
	if !s.closed(j) || !s.open(i) && !s.countryCode(i) {
		return 0
	}
	switch n := len(number); {
	case n == 11 && mobile(number):
		return s.found(cPhone, "cn-mobile", i, j)
	case n == 18 && idCard(number):
		return s.found(cIDCard, "cn-id-18", i, j)
	case n == 18 && uscc(number):
		return s.found(cUSCC, "cn-uscc", i, j)
	case n >= 13 && n <= 19 && bankCard(number):
		return s.found(cBankCard, "card-luhn", i, j)
	case n == 15 && oldIDCard(number) && (i == 0 && j == len(s.text) || s.context(i, "身份证", "证件", "idcard", "id card", "id_card", "id no")):
		return s.found(cIDCard, "cn-id-15", i, j)
	}
	return 0
}

// countryCode tells whether 86 stands before i, parted from it.
func (s *scan) countryCode(i int) bool {
	if i < 3 || s.text[i-2] != '6' || s.text[i-3] != '8' || s.text[i-1] != '-' && s.text[i-1] != ' ' {
		return false
	}
	b := s.prev(i - 3)
	return bits[b]&bAlnum == 0 || i >= 5 && s.text[i-5:i-3] == "00" && bits[s.prev(i-5)]&bAlnum == 0
}

// chain reads groups of digits from i on.
func (s *scan) chain(i int, c *chain) {
	text := s.text
	for {
		j := i
		for j < len(text) && bits[text[j]]&bDigit != 0 {
			if c.total+(j-i) < maxDigits {
				c.digits[c.total+(j-i)] = text[j]
			}
			j++
			if j-i > maxDigits {
				break
			}
		}
		s.steps += j - i
		if c.n == maxGroups || c.total+(j-i) > maxDigits {
			c.after = j - i
			return
		}
		c.len[c.n], c.end[c.n] = j-i, j
		c.total += j - i
		c.n++
		if c.n == 1 {
			c.sep = s.next(j)
		}
		if s.next(j) != c.sep || bits[s.next(j+1)]&bDigit == 0 {
			return
		}
		i = j + 1
	}
}

// layouts are the ways in which numbers are parted into groups.
var (
	phoneLayouts = [][]int{{3, 4, 4}, {3, 8}, {7, 4}, {4, 3, 4}, {4, 4, 3}, {5, 6}}
	cardLayouts  = [][]int{
		{4, 4, 4, 4, 3}, {4, 4, 4, 4, 2}, {4, 4, 4, 4, 1}, {4, 4, 4, 4}, {6, 13}, {6, 10}, {8, 8}, {8, 11}, {4, 6, 5}, {4, 6, 4}, {6, 4, 4, 5},
	}
)

// grouped looks at the groups of digits that begin at i.
func (s *scan) grouped(i int) int {
	var c chain
	s.chain(i, &c)
	if c.n < 2 || !s.openGroup(i, &c) {
		return 0
	}
	if end := s.groupedID(i, &c); end > 0 {
		return end
	}
	if c.sep != '.' {
		for _, l := range cardLayouts {
			if n, end := s.fits(&c, l); n > 0 && bankCard(string(c.digits[:n])) {
				return s.found(cBankCard, "card-luhn", i, end)
			}
		}
	}
	// An "86" in front is a group of its own.
	if c.len[0] == 2 && c.digits[0] == '8' && c.digits[1] == '6' || c.len[0] == 4 && string(c.digits[:4]) == "0086" {
		return 0 // the walk comes to the next group
	}
	if c.digits[0] == '1' {
		for _, l := range phoneLayouts {
			if n, end := s.fits(&c, l); n > 0 && mobile(string(c.digits[:n])) {
				return s.found(cPhone, "cn-mobile", i, end)
			}
		}
	}
	if c.len[0] == 3 && c.n >= 3 && c.len[1] == 2 && c.len[2] == 4 && (c.n == 3 && c.after == 0 || c.sep == ' ') && c.sep != '.' &&
		(c.sep == '-' || s.context(i, "ssn", "social security")) && s.closed(c.end[2]) &&
		ssn(string(c.digits[:3]), string(c.digits[3:5]), string(c.digits[5:9])) {
		return s.found(cUSSSN, "us-ssn", i, c.end[2])
	}
	if c.len[0] == 1 {
		return s.spread(i, &c)
	}
	return 0
}

// openGroup tells whether the groups of c may begin at i: not behind a group that looks like one of them.
func (s *scan) openGroup(i int, c *chain) bool {
	if s.prev(i) != c.sep || bits[s.prev(i-1)]&bDigit == 0 {
		return s.open(i)
	}
	if s.countryCode(i) {
		return true
	}
	if c.sep != ' ' {
		return false
	}
	if n := len(s.out); n > s.base && s.out[n-1].End == i-1 {
		return true
	}
	return i-1-s.back(i-1, bDigit, maxDigits+1) != c.len[0]
}

// fits tells whether c begins with groups of the lengths in layout, and returns their digits and their end.
func (s *scan) fits(c *chain, layout []int) (digits, end int) {
	if c.n < len(layout) {
		return 0, 0
	}
	for k, n := range layout {
		if c.len[k] != n {
			return 0, 0
		}
		digits += n
	}
	if last := len(layout); !s.closedGroup(c, last) {
		return 0, 0
	}
	return digits, c.end[len(layout)-1]
}

// closedGroup tells whether a number may end behind the first n groups of c.
func (s *scan) closedGroup(c *chain, n int) bool {
	after := c.after
	if n < c.n {
		after = c.len[n]
	}
	if after > 0 {
		return c.sep == ' ' && after != c.len[n-1]
	}
	return s.closed(c.end[n-1])
}

// groupedID looks for a resident identity number in groups of any lengths: its check digit, date and region say enough.
func (s *scan) groupedID(i int, c *chain) int {
	total := 0
	for k := range c.n {
		total += c.len[k]
		if total == 18 && s.closedGroup(c, k+1) && idCard(string(c.digits[:18])) {
			return s.found(cIDCard, "cn-id-18", i, c.end[k])
		}
		if total == 17 {
			end := c.end[k]
			if s.next(end) == c.sep {
				end++
			}
			if x := s.next(end); (x == 'X' || x == 'x') && s.closed(end+1) && idCard(string(c.digits[:17])+"X") {
				return s.found(cIDCard, "cn-id-18", i, end+1)
			}
		}
	}
	return 0
}

// spread looks at digits that stand one by one.
func (s *scan) spread(i int, c *chain) int {
	k := 0
	for k < c.n && c.len[k] == 1 {
		k++
	}
	if !s.closedGroup(c, k) {
		return 0
	}
	number, end := string(c.digits[:k]), c.end[k-1]
	switch {
	case k == 11 && mobile(number):
		return s.found(cPhone, "cn-mobile", i, end)
	case k >= 13 && bankCard(number):
		return s.found(cBankCard, "card-luhn", i, end)
	}
	return 0
}

// mixed looks at a run of digits with a letter beside it.
func (s *scan) mixed(i, j int) int {
	text, n := s.text, j-i
	before, after := s.prev(i), s.next(j)
	// A word such as tel may be written without a space.
	if n == 11 && bits[after]&bLetter == 0 && text[i] == '1' && mobile(text[i:j]) && s.closed(j) && s.context(i, "tel", "phone", "mobile", "cell") {
		return s.found(cPhone, "cn-mobile", i, j)
	}
	if n == 17 && (after == 'X' || after == 'x') && bits[before]&bAlnum == 0 && s.open(i) && s.closed(j+1) &&
		idCard(text[i:j]+"X") {
		return s.found(cIDCard, "cn-id-18", i, j+1)
	}
	if i < s.runEnd {
		return j
	}
	if n == 2 && i >= 2 && bits[before]&bUpper != 0 && bits[text[i-2]]&bUpper != 0 && bits[s.prev(i-2)]&bAlnum == 0 {
		if end := s.iban(i - 2); end > 0 {
			return end
		}
	}
	if n < 2 {
		return j
	}
	const longest = 35
	start, end := s.back(i, bAlnum, longest), s.while(j, bAlnum, longest)
	if end-start > longest {
		s.runEnd = end
		return max(j, end)
	}
	token := text[start:end]
	if !s.open(start) || !s.closed(end) {
		return j
	}
	switch {
	case len(token) == 18 && uscc(token):
		return s.found(cUSCC, "cn-uscc", start, end)
	case passport(token) && s.context(start, "护照", "passport"):
		return s.found(cPassport, "cn-passport", start, end)
	}
	if bits[text[start]]&bUpper != 0 && len(token) >= 15 {
		if end := s.iban(start); end > 0 {
			return end
		}
	}
	return j
}

// mobile tells whether n is a mobile number: a segment that is assigned to an operator, and eight digits.
func mobile(n string) bool {
	if len(n) != 11 || n[0] != '1' {
		return false
	}
	return segments[n[1]-'0']>>(n[2]-'0')&1 != 0
}

// segments holds, for the second digit of a mobile number, the set of third digits that are assigned.
var segments = [10]uint16{
	3: 0b11_1111_1111,
	4: 0b11_1110_0000,
	5: 0b11_1110_1111,
	6: 0b00_1110_0100,
	7: 0b01_1111_1111,
	8: 0b11_1111_1111,
	9: 0b11_1110_1111,
}

// provinces of GB/T 2260, as bits of the second digit for each first one.
var provinces = [10]uint16{
	1: 0b0011_1110, // 11-15
	2: 0b0000_1110, // 21-23
	3: 0b1111_1110, // 31-37
	4: 0b0111_1110, // 41-46
	5: 0b0001_1111, // 50-54
	6: 0b0011_1110, // 61-65
	7: 0b0000_0010, // 71
	8: 0b0000_1110, // 81-83
	9: 0,
}

func region(n string) bool {
	if provinces[n[0]-'0']>>(n[1]-'0')&1 == 0 {
		return false
	}
	city, county := two(n[2:]), two(n[4:])
	if n[0] >= '7' {
		return city == 0 && county == 0
	}
	return city >= 1 && city <= 90 && county >= 1
}

func two(n string) int { return int(n[0]-'0')*10 + int(n[1]-'0') }

func date(year, month, day int) bool {
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	days := 31
	switch month {
	case 4, 6, 9, 11:
		days = 30
	case 2:
		days = 28
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			days = 29
		}
	}
	return day <= days
}

var idWeights = [17]int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}

// idCard tells whether n, 17 digits and a digit or X, is a resident identity number by GB 11643.
func idCard(n string) bool {
	year := two(n[6:])*100 + two(n[8:])
	if !region(n) || year < 1850 || year > 2099 || !date(year, two(n[10:]), two(n[12:])) {
		return false
	}
	sum := 0
	for i, w := range idWeights {
		sum += int(n[i]-'0') * w
	}
	return "10X98765432"[sum%11] == n[17]
}

// oldIDCard tells whether n has the form of before 1999: 15 digits, a year of two digits, no check digit.
func oldIDCard(n string) bool {
	return region(n) && date(1900+two(n[6:]), two(n[8:]), two(n[10:])) && n[12:] != "000"
}

// bankCard tells whether the Luhn sum of n holds and n is of a length that its issuer gives out.
func bankCard(n string) bool {
	return issuer(n) && luhn(n)
}

func luhn(n string) bool {
	sum := 0
	for i := range len(n) {
		d := int(n[len(n)-1-i] - '0')
		if i&1 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

func issuer(n string) bool {
	if len(n) < 13 {
		return false
	}
	head := 0
	for i := range 6 {
		head = head*10 + int(n[i]-'0')
	}
	l := len(n)
	is := func(low, high int) bool { return head >= low && head <= high }
	switch n[0] {
	case '2':
		return is(222100, 272099) && l == 16 || is(220000, 220499) && l >= 16 // Mastercard, Mir
	case '3':
		switch {
		case is(340000, 349999), is(370000, 379999): // American Express
			return l == 15
		case is(300000, 305999), is(309500, 309599), is(360000, 369999), is(380000, 399999): // Diners Club
			return l == 14 || l == 16 || l == 19
		}
		return is(352800, 358999) && l >= 16 // JCB
	case '4':
		return l == 13 || l == 16 || l == 19 // Visa
	case '5':
		return is(510000, 559999) && l == 16 // Mastercard
	case '6':
		switch {
		case is(620000, 629999): // UnionPay
			return l >= 16
		case is(601100, 601199), is(644000, 659999): // Discover
			return l >= 16
		case is(601382, 601382), is(603000, 603999), is(685800, 685899), is(690700, 690799): // of single Chinese banks
			return l == 16 || l == 19
		}
	case '8':
		return is(810000, 817199) && l >= 16 // UnionPay
	case '9':
		switch {
		case is(900000, 900010), is(940000, 940999), is(955000, 955999), is(966666, 966666), is(984300, 984399), is(998800, 998899):
			return l >= 16
		}
	}
	return false
}

// ssn follows the rules of assignment since 2011.
func ssn(area, group, serial string) bool {
	return area != "000" && area != "666" && area[0] != '9' && group != "00" && serial != "0000" &&
		area+group+serial != "078051120" // of an advertisement
}

const usccAlphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"

var usccWeights = [17]int{1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28}

var usccValues = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range usccAlphabet {
		t[usccAlphabet[i]] = int8(i)
		t[usccAlphabet[i]|0x20] = int8(i) // for digits, the bit is set already
	}
	return t
}()

// uscc tells whether n is a unified social credit code by GB 32100: authority, category, region, organisation, check.
func uscc(n string) bool {
	switch n[0] | 0x20 {
	case '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'n', 'y':
	default:
		return false
	}
	sum := 0
	for i := range 18 {
		v := int(usccValues[n[i]])
		if v < 0 || i >= 2 && i < 8 && v > 9 {
			return false
		}
		if i < 17 {
			sum += v * usccWeights[i]
		} else if (31-sum%31)%31 != v {
			return false
		}
	}
	// 100000 is the country: what its ministries register.
	return n[2:8] == "100000" || provinces[n[2]-'0']>>(n[3]-'0')&1 != 0
}

// passport tells whether n has the form of a Chinese passport number.
func passport(n string) bool {
	digits := 0
	for i := range len(n) {
		switch {
		case bits[n[i]]&bDigit != 0:
			digits++
		case i > 1:
			return false
		}
	}
	switch n[0] | 0x20 {
	case 'e', 'g', 'd', 's', 'p', 'h', 'm':
	default:
		return false
	}
	return len(n) == 9 && digits >= 7 || len(n) == 8 && digits == 7
}
