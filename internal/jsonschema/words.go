package jsonschema

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
)

// shapeOf says what v is, without saying what it holds.
func shapeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return counted("string of ", len(v), "byte")
	case []any:
		return counted("array of ", len(v), "item")
	case map[string]any:
		return counted("object of ", len(v), "member")
	}
	return "number"
}

func counted(what string, n int, unit string) string {
	if n != 1 {
		unit += "s"
	}
	return what + strconv.Itoa(n) + " " + unit
}

// shapeAt says what starts at a byte of JSON text.
func shapeAt(text string, at int) string {
	if at >= len(text) {
		return "end of input"
	}
	switch c := text[at]; {
	case c == '"':
		return "string"
	case c == '-' || '0' <= c && c <= '9':
		return "number"
	case c == '{':
		return "object"
	case c == '[':
		return "array"
	case strings.IndexByte("}],:", c) >= 0:
		return strconv.Quote(string(rune(c)))
	case c == '\\':
		return "backslash"
	case c < 0x20 || c == 0x7f:
		return "control character"
	case c >= 0x80:
		return "byte beyond ASCII"
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(text[at:], word) {
			return strings.NewReplacer("true", "boolean", "false", "boolean").Replace(word)
		}
	}
	return "text"
}

// Expected values come from the schema, and long ones are cut.
const maxExpected = 200

func cut(text string) string {
	if len(text) <= maxExpected {
		return text
	}
	return strings.ToValidUTF8(text[:maxExpected], "") + "…"
}

func literalText(v any) string {
	if s, ok := v.(string); ok && s != "" && !strings.ContainsAny(s, " ,\"") {
		return cut(s)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "a value of the schema"
	}
	return cut(string(text))
}

// choice is "a", "a or b", "a, b or c".
func choice(all []string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

func ratText(r *big.Rat) string {
	if r.IsInt() {
		return cut(r.RatString())
	}
	return strings.TrimRight(r.FloatString(10), "0")
}
