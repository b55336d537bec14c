// Package schemas holds the JSON Schemas (draft-07) of what Veritrail reads, for
// programs that check an event before sending it and for experts who read one
// in a case. The format itself is fixed by docs/format/event.md; a schema says
// what JSON Schema can say of it.
//
// It knows only its own files.
package schemas

import _ "embed"

//go:embed event.schema.json
var event string

//go:embed openapi.json
var openAPI string

// OpenAPI returns the description of the HTTP interface.
func OpenAPI() []byte { return []byte(openAPI) }

// EventFile is the name of the event's schema.
const EventFile = "event.schema.json"

// Event returns the schema of a compliance event.
func Event() []byte { return []byte(event) }
