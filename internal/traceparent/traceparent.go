// Package traceparent reads the traceparent header of W3C Trace Context, section 3.2, for the adapters whose caller
// has no span of its own:
//
//	traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//	             version, trace id, the caller's span id, flags
//
// It takes text and returns text, and knows no tracing library.
package traceparent

// lengths of the parts of version 00, with the hyphens between them
const (
	traceAt  = 3
	parentAt = traceAt + 32 + 1
	flagsAt  = parentAt + 16 + 1
	length   = flagsAt + 2
)

// Parse returns the trace id and the caller's span id, both in lower-case hexadecimal digits, of a header's value. A
// version later than 00 is read as section 4.3 says: as if it were 00, whatever follows it after a hyphen.
func Parse(value string) (traceID, parentID string, ok bool) {
	if len(value) < length || value[2] != '-' || value[parentAt-1] != '-' || value[flagsAt-1] != '-' {
		return "", "", false
	}
	version := value[:2]
	if !isHex(version) || version == "ff" {
		return "", "", false
	}
	if len(value) > length && (version == "00" || value[length] != '-') {
		return "", "", false
	}
	traceID, parentID = value[traceAt:parentAt-1], value[parentAt:flagsAt-1]
	if !isID(traceID) || !isID(parentID) || !isHex(value[flagsAt:length]) {
		return "", "", false
	}
	return traceID, parentID, true
}

// isID reports whether s is hexadecimal and not all zeros, which stands for "invalid".
func isID(s string) bool {
	if !isHex(s) {
		return false
	}
	for i := range len(s) {
		if s[i] != '0' {
			return true
		}
	}
	return false
}

// isHex accepts lower case only, as section 3.2.2 demands.
func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
