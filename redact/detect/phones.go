package detect

// landline looks at a number that begins with an area code at i, in parentheses or not: text[i:j] is its first run of
// digits. Without a separator a word has to say what it is.
func (s *scan) landline(i, j int) int {
	text := s.text
	start, n := i, j-i
	paren := s.prev(i) == '('
	if text[i] != '0' {
		return 0
	}
	if paren {
		start--
	}
	code := areaCode(text[i:j])
	if code == 0 {
		return 0
	}
	rest := i + code
	switch {
	case paren && n == code && s.next(j) == ')':
		rest = j + 1
		if s.next(rest) == ' ' || s.next(rest) == '-' {
			rest++
		}
	case n == code && (s.next(j) == '-' || s.next(j) == ' '):
		rest = j + 1
	case n > code && s.context(i, "电话", "座机", "固话", "传真", "tel", "phone", "fax"):
	default:
		return 0
	}
	if !paren && !s.open(start) {
		return 0
	}
	end, digits := rest, 0
	for end < len(text) && digits <= 8 {
		if bits[text[end]]&bDigit != 0 {
			digits++
		} else if digits != 3 && digits != 4 || text[end] != '-' && text[end] != ' ' || bits[s.next(end+1)]&bDigit == 0 {
			break
		}
		end++
	}
	s.steps += end - i
	if digits != 8 && (digits != 7 || code == 3) || bits[s.next(rest)]&bDigit == 0 || text[rest] < '2' || text[rest] > '8' {
		return 0
	}
	// An extension belongs to the number.
	if x := s.next(end); x == '-' || x == '#' {
		ext := s.while(end+1, bDigit, 6)
		if k := ext - end - 1; k >= 1 && k <= 5 {
			end = ext
		}
	}
	if !s.closed(end) {
		return 0
	}
	return s.found(cLandline, "cn-landline", start, end)
}

// areaCode returns the length of the area code that n begins with, 0 when there is none.
func areaCode(n string) int {
	switch {
	case len(n) < 3:
	case n[1] == '1':
		if n[2] == '0' {
			return 3
		}
	case n[1] == '2':
		if n[2] != '6' {
			return 3
		}
	case n[1] >= '3' && len(n) >= 4:
		return 4
	}
	return 0
}

// plates of provinces, and of the armed police and the embassies.
const plateHeads = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"

// plate looks at a Han character with a capital behind it.
func (s *scan) plate(i int) int {
	head := s.text[i : i+3]
	known := false
	for k := 0; k < len(plateHeads); k += 3 {
		if plateHeads[k:k+3] == head {
			known = true
			break
		}
	}
	s.steps += len(plateHeads)
	if !known {
		return i + 3
	}
	letter := i + 3
	if s.text[letter] == '.' {
		letter++
	}
	if c := s.next(letter); bits[c]&bUpper == 0 || c == 'I' || c == 'O' {
		return i + 3
	}
	j := letter + 1
	if c := s.next(j); c == '.' || c == ' ' || c == '-' {
		j++
	}
	start, digits := j, 0
	for j < len(s.text) && j-start <= 6 && bits[s.text[j]]&(bDigit|bUpper) != 0 {
		if bits[s.text[j]]&bDigit != 0 {
			digits++
		} else if s.text[j] == 'I' || s.text[j] == 'O' {
			return i + 3
		}
		j++
	}
	s.steps += j - start
	n := j - start
	if n == 4 && j+3 <= len(s.text) {
		switch s.text[j : j+3] {
		case "警", "学", "挂", "港", "澳", "领", "使":
			j, n = j+3, 5
		}
	}
	switch {
	case bits[s.next(j)]&bAlnum != 0:
	case n == 5 && digits >= 3:
		return s.found(cPlate, "cn-plate", i, j)
	case n == 6 && digits >= 4 && (bits[s.text[start]]&bUpper != 0 || bits[s.text[j-1]]&bUpper != 0):
		return s.found(cPlate, "cn-plate-energy", i, j)
	}
	return i + 3
}
