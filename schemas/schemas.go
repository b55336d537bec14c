// Package schemas holds the JSON Schemas (draft-07) of what Veritrail reads, for
// programs that check an event before sending it and for experts who read one
// in a case. The event's format itself is fixed by docs/format/event.md, and the
// other form's by docs/format/schemas.md; a schema says what JSON Schema can say
// of it.
//
// It knows only its own files.
package schemas

import _ "embed"

//go:embed event.schema.json
var event string

//go:embed record.schema.json
var record string

//go:embed config.schema.json
var config string

// Names of the files, for whoever hands them on.
const (
	EventFile  = "event.schema.json"
	RecordFile = "record.schema.json"
	ConfigFile = "config.schema.json"
)

// Event returns the schema of a compliance event.
func Event() []byte { return []byte(event) }

// Record returns the schema of the flat record form.
func Record() []byte { return []byte(record) }

// Config returns the schema of the configuration file.
func Config() []byte { return []byte(config) }
