package jsonschema

import (
	"errors"
	"net/netip"
	"strings"

	lib "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/veritrail/veritrail"
)

// ownFormats are those we have an opinion on, or that every event needs. The library takes them from here as well.
var ownFormats = []*lib.Format{
	ownFormat("uuid", isUUID),
	ownFormat("date-time", isDateTime),
	ownFormat("ip", isIP),
}

var errFormat = errors.New("not of the format")

func ownFormat(name string, ok func(string) bool) *lib.Format {
	return &lib.Format{Name: name, Validate: func(v any) error {
		if s, is := v.(string); is && !ok(s) {
			return errFormat
		}
		return nil
	}}
}

func isUUID(s string) bool {
	_, err := veritrail.ParseUUID(s)
	return err == nil
}

// isIP accepts an IPv4 or IPv6 address, without zone, port or prefix length.
func isIP(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Zone() == ""
}

// isDateTime accepts date-time of RFC 3339, section 5.6: either letter case, any number of fraction digits, and
// second 60 where it can be one of UTC.
func isDateTime(s string) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || s[7] != '-' || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return false
	}
	century, year, month, day := twoDigits(s[0:]), twoDigits(s[2:]), twoDigits(s[5:]), twoDigits(s[8:])
	hour, minute, second := twoDigits(s[11:]), twoDigits(s[14:]), twoDigits(s[17:])
	if century < 0 || year < 0 || month < 1 || month > 12 || day < 1 || day > daysOf(100*century+year, month) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60 {
		return false
	}
	rest := s[len("2006-01-02T15:04:05"):]
	if rest[0] == '.' {
		digits := strings.TrimLeft(rest[1:], "0123456789")
		if len(digits) == len(rest)-1 {
			return false
		}
		rest = digits
	}
	offset := 0
	switch {
	case rest == "Z" || rest == "z":
	case len(rest) == len("+00:00") && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, m := twoDigits(rest[1:]), twoDigits(rest[4:])
		if h < 0 || h > 23 || m < 0 || m > 59 {
			return false
		}
		offset = 60*h + m
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return false
	}
	const day1 = 24 * 60
	return second < 60 || (60*hour+minute-offset+day1)%day1 == day1-1
}

func twoDigits(s string) int {
	hi, lo := s[0]-'0', s[1]-'0'
	if hi > 9 || lo > 9 {
		return -1
	}
	return 10*int(hi) + int(lo)
}

func daysOf(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
