package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// authority issues certificates into files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, key := a.sign(template)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key = cert, key
	a.write(name+".pem", "CERTIFICATE", der)
	return a
}

func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// issue writes NAME.pem and NAME.key, and returns the serial number.
func (a *authority) issue(name string) int64 {
	a.t.Helper()
	a.n++
	der, key := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(100 + a.n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".key", "PRIVATE KEY", text)
	a.write(name+".pem", "CERTIFICATE", der)
	return 100 + a.n
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// TestUpWithTLS serves with certificates, takes a client's in place of the token,
// and goes on with new ones without a restart.
func TestUpWithTLS(t *testing.T) {
	dir := t.TempDir()
	ours, others := newAuthority(t, dir, "ca"), newAuthority(t, dir, "other-ca")
	first := ours.issue("server")
	ours.issue("client")
	others.issue("stranger")
	config := "tls: {cert: server.pem, key: server.key, client_ca: ca.pem}\nhttp: {remember_ids: 1000, remember_for: 1h, max_body: 1000000}\n"
	if err := os.WriteFile(filepath.Join(dir, "up.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	up := &killed{cmd: exec.Command(program, "up", "--data", "trail", "--listen", address, "--config", "up.yaml")}
	up.cmd.Dir = dir
	up.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(dir, "state"))
	up.start(t, true)
	defer up.kill()
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	serial := func() (int64, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
		resp, err := client.Get("https://" + address + "/readyz")
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
	}
	await := func(want int64) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var got int64
		var err error
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
			if got, err = serial(); err == nil && got == want {
				return
			}
		}
		t.Fatalf("certificate %d, %v, want %d", got, err, want)
	}
	await(first)
	record := func(args ...string) error {
		cmd := exec.Command(program, append([]string{"record", "--to", "https://" + address, "--wait", "5s"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "VERITRAIL_TOKEN=", "XDG_STATE_HOME="+filepath.Join(dir, "nowhere"))
		cmd.Stdin = bytes.NewReader([]byte(`{"sub":{"user":"u1"},"act":"APP.DEMO"}`))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := record("--ca", "ca.pem", "--cert", "client.pem", "--key", "client.key"); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := record("--ca", "ca.pem", "--token-file", "trail/token"); err != nil {
		t.Errorf("with the token: %v", err)
	}
	if err := record("--ca", "ca.pem", "--cert", "stranger.pem", "--key", "stranger.key"); err == nil {
		t.Error("recorded with a certificate of others")
	}
	if err := record("--ca", "ca.pem"); err == nil {
		t.Error("recorded with nothing")
	}
	if err := record("--ca", "other-ca.pem", "--token-file", "trail/token"); err == nil {
		t.Error("recorded at a server that nobody vouches for")
	}
	// Half a renewal leaves the old one in use; the whole of it is taken up.
	if err := os.WriteFile(filepath.Join(dir, "server.pem"), []byte("not yet"), 0o600); err != nil {
		t.Fatal(err)
	}
	<-time.After(1100 * time.Millisecond) // it looks once a second
	await(first)
	await(ours.issue("server"))
}
