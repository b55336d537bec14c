package veritrailhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailhttp"
)

// printer stands in for a recorder; package recorder has the one that makes a trail.
type printer struct{}

func (printer) Record(_ context.Context, e *veritrail.ComplianceEvent) error {
	fmt.Println(e.Severity, e.Subject, e.Action, e.Object, e.Context["outcome"], e.Context["status"])
	return nil
}

func Example() {
	audit, err := veritrailhttp.New(veritrailhttp.Config{
		Recorder: printer{},
		Service:  "payments",
		Actions:  map[string]string{"GET /v1/accounts/{id}": "DATA.READ"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/accounts/{id}", func(w http.ResponseWriter, r *http.Request) {
		veritrailhttp.SetSubject(r.Context(), "user", "u1") // after checking it
		veritrailhttp.SetObject(r.Context(), "account", r.PathValue("id"))
		fmt.Fprintln(w, "balance: 100")
	})
	srv := audit(mux) // for http.ListenAndServe

	srv.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/accounts/62", nil))
	srv.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/etc/passwd", nil))
	// Output:
	// INFO map[user:u1] DATA.READ map[account:62 api:/v1/accounts/{id} method:GET] ok 200
	// WARN map[svc:payments] ACCESS.HTTP.GET map[method:GET] failed 404
}
