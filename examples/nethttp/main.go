// Nethttp is a bank of three routes that records each request before it does anything, and what came of it. It serves on
// loopback, asks itself a few questions and ends.
//
//	go run ./nethttp [DIR]
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/veritrailhttp"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "nethttp:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	dir, err := trailDir(args)
	if err != nil {
		return err
	}
	rec, err := recorder.Open(recorder.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.Close()) }() // makes durable and seals what is left

	audit, err := veritrailhttp.New(veritrailhttp.Config{
		Recorder: rec,
		Service:  "payments",
		Policy:   veritrailhttp.FailClosed, // nothing is done that is not on record
		Actions: map[string]string{
			"POST /v1/login":               "AUTH.LOGIN",
			"GET /v1/accounts/{account}":   "DATA.READ",
			"POST /v1/transfers/{account}": "DATA.TRANSFER",
		},
		Skip: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
	})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: audit(routes()), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	err = visit("http://" + listener.Addr().String())
	// Shutdown waits for the handlers, and so for their events; Close of the recorder comes after it.
	err = errors.Join(err, srv.Shutdown(context.Background()))
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	if err != nil {
		return err
	}
	fmt.Printf("recorded into %s; check it with: veritrail verify %s\n", dir, dir)
	return nil
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/login", func(w http.ResponseWriter, r *http.Request) {
		veritrailhttp.SetSubject(r.Context(), "user", r.PostFormValue("user"))
		if r.PostFormValue("pin") != "0000" { // a bank would look it up
			veritrailhttp.SetAction(r.Context(), "AUTH.LOGIN.FAIL")
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		veritrailhttp.SetAction(r.Context(), "AUTH.LOGIN.OK")
	})
	account := func(_ http.ResponseWriter, r *http.Request) {
		veritrailhttp.SetSubject(r.Context(), "user", "u1") // from the session, in a bank
		veritrailhttp.SetObject(r.Context(), "account", r.PathValue("account"))
	}
	mux.HandleFunc("GET /v1/accounts/{account}", account)
	mux.HandleFunc("POST /v1/transfers/{account}", func(w http.ResponseWriter, r *http.Request) {
		account(w, r)
		veritrailhttp.SetContext(r.Context(), "amount", r.PostFormValue("amount"))
	})
	return mux
}

// visit is a client that mistypes once.
func visit(base string) error {
	for _, ask := range []struct {
		method, path, form string
		want               int
	}{
		{http.MethodGet, "/healthz", "", http.StatusOK},
		{http.MethodPost, "/v1/login", "user=u2&pin=1234", http.StatusUnauthorized},
		{http.MethodPost, "/v1/login", "user=u1&pin=0000", http.StatusOK},
		{http.MethodGet, "/v1/accounts/62?verbose=1", "", http.StatusOK},
		{http.MethodPost, "/v1/transfers/62", "amount=100", http.StatusOK},
		{http.MethodGet, "/etc/passwd", "", http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(context.Background(), ask.method, base+ask.path, strings.NewReader(ask.form))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != ask.want {
			return fmt.Errorf("%s %s: %s", ask.method, ask.path, resp.Status)
		}
	}
	return nil
}

// trailDir is the directory that was named, or a new one.
func trailDir(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	temp, err := os.MkdirTemp("", "veritrail-example-")
	return filepath.Join(temp, "trail"), err
}
