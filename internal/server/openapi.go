package server

import (
	"net/http"

	"github.com/veritrail/veritrail/schemas"
)

// getOpenAPI answers with the description of this interface, which the server
// is tested against.
func getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
	h.Set("Cache-Control", cacheNever)
	_, _ = w.Write(schemas.OpenAPI()) // the client may have gone
}
