package health

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

const soonExpired = 30 * 24 * time.Hour

// Certificate judges whether the first certificate in a PEM file is valid at
// that time, and for how long.
func Certificate(file []byte, now time.Time) Check {
	c := Check{Name: "certificate", Expected: "valid for 30 days or more"}
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			c.Result, c.Found, c.Advice = Fail, "no certificate in the file", "name the file with the certificate in tls.cert"
			return c
		}
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				c.Result, c.Found, c.Advice = Fail, "not a certificate", "name the file with the certificate in tls.cert"
				return c
			}
			return c.of(cert, now)
		}
	}
}

func (c Check) of(cert *x509.Certificate, now time.Time) Check {
	c.Found = "valid until " + cert.NotAfter.UTC().Format(time.RFC3339)
	switch left := cert.NotAfter.Sub(now); {
	case now.Before(cert.NotBefore):
		c.worsen(Fail, "not before "+cert.NotBefore.UTC().Format(time.RFC3339), "set the clock, or wait: no client accepts it yet")
	case left <= 0:
		c.worsen(Fail, "expired", "renew it: no client accepts it")
	case left < soonExpired:
		c.worsen(Warn, fmt.Sprintf("%d days left", int(left.Hours()/24)), "renew it")
	}
	return c
}
