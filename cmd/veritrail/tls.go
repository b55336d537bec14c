package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// tlsFiles are the certificate, its key and the authority of clients. They are
// read again when one of them has changed, at the next connection, so that
// nothing need be restarted when a certificate is renewed. While the new ones
// can't be read, the old ones stay.
type tlsFiles struct {
	cert, key, clientCA string
	require             bool // a certificate of clients
	log                 *slog.Logger

	mu     sync.Mutex
	conf   *tls.Config
	looked time.Time
	seen   [3]fileState
}

type fileState struct {
	size int64
	at   time.Time
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// tlsConfig is nil when there is no certificate.
func (c *config) tlsConfig(log *slog.Logger) (*tls.Config, error) {
	if c.TLS.Cert == "" && c.TLS.Key == "" {
		if c.TLS.ClientCA != "" || c.TLS.RequireClient {
			return nil, usageError("tls: client_ca needs cert and key")
		}
		return nil, nil
	}
	if c.TLS.RequireClient && c.TLS.ClientCA == "" {
		return nil, usageError("tls: require_client needs client_ca")
	}
	f := &tlsFiles{cert: c.TLS.Cert, key: c.TLS.Key, clientCA: c.TLS.ClientCA, require: c.TLS.RequireClient, log: log}
	f.seen = f.states()
	var err error
	if f.conf, err = f.read(); err != nil {
		return nil, usageError("tls: %w", err)
	}
	outer := f.conf.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current(), nil }
	return outer, nil
}

func (f *tlsFiles) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if f.clientCA == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(f.clientCA)
	if err != nil {
		return nil, err
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", f.clientCA)
	}
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	if f.require {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

func (f *tlsFiles) states() (out [3]fileState) {
	for i, name := range []string{f.cert, f.key, f.clientCA} {
		if st, err := os.Stat(name); err == nil {
			out[i] = fileState{st.Size(), st.ModTime()}
		}
	}
	return out
}

func (f *tlsFiles) current() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < lookEvery {
		return f.conf
	}
	f.looked = time.Now()
	now := f.states()
	if now == f.seen {
		return f.conf
	}
	conf, err := f.read()
	if err != nil {
		f.log.Warn("the new certificate can't be used; the old one stays", "error", err) // and is tried again
		return f.conf
	}
	f.conf, f.seen = conf, now
	f.log.Info("certificate read again")
	return f.conf
}
