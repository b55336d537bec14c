package logevent

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// Text returns a logged value as the text that stands in an event: what the value says of itself, or its JSON. JSON and
// not fmt's form, so that json:"-" keeps a field out and unexported ones never show.
//
// A value that has no text, or panics while it is asked for one, is replaced by "!ERROR" and its type: the event is
// worth more than one of its values.
func Text(v any) (text string) {
	defer func() {
		if recover() != nil {
			if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
				text = "null" // its method could not know
				return
			}
			text = fmt.Sprintf("!ERROR: %T panicked", v)
		}
	}()
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case time.Time:
		return Time(v)
	case error:
		return v.Error()
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		if err != nil {
			return fmt.Sprintf("!ERROR: %T has no text", v)
		}
		return string(b)
	case fmt.Stringer:
		return v.String()
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprintf("!ERROR: %T has no JSON", v) // err may tell values
	}
	return JSON(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// JSON returns a JSON value as text: a string without its quotation marks, all else as it is.
func JSON(raw []byte) string {
	if len(raw) >= 2 && raw[0] == '"' {
		if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
			return string(inner)
		}
		var s string
		if err := json.Unmarshal(raw, &s); err == nil {
			return s
		}
	}
	return string(raw)
}

// Time returns t as an event's own time is written: UTC, as many fraction digits as it has.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Float returns the shortest text that reads back as the same number.
func Float(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
