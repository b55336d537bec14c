package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/veritrail/veritrail/internal/server"
	"github.com/veritrail/veritrail/recorder"
)

// config is the configuration file. Flags go before it, defaults behind it.
type config struct {
	Data        string      `yaml:"data" json:"data,omitempty"`                 // the trail's directory
	Listen      string      `yaml:"listen" json:"listen,omitempty"`             // of up
	Origin      string      `yaml:"origin" json:"origin,omitempty"`             // of a trail that is made
	Digests     []string    `yaml:"digests" json:"digests,omitempty"`           // of a trail that is made: sha256, sm3
	Ack         string      `yaml:"ack" json:"ack,omitempty"`                   // durable, sealed, buffered
	PublicTiles bool        `yaml:"public_tiles" json:"public_tiles,omitempty"` // entry bundles without the token
	Allow       allowConfig `yaml:"allow" json:"allow"`
	TLS         tlsConfig   `yaml:"tls" json:"tls"`
	HTTP        httpConfig  `yaml:"http" json:"http"`
}

type allowConfig struct {
	Subjects []string `yaml:"subjects" json:"subjects,omitempty"`
	Actions  []string `yaml:"actions" json:"actions,omitempty"`
}

type tlsConfig struct {
	Cert          string `yaml:"cert" json:"cert,omitempty"`
	Key           string `yaml:"key" json:"key,omitempty"`
	ClientCA      string `yaml:"client_ca" json:"client_ca,omitempty"`           // whose certificates are as good as the token
	RequireClient bool   `yaml:"require_client" json:"require_client,omitempty"` // turn away who has none
}

// httpConfig is of the HTTP interface.
type httpConfig struct {
	RememberIDs int    `yaml:"remember_ids" json:"remember_ids,omitempty"` // so many of the newest events are not recorded again
	RememberFor string `yaml:"remember_for" json:"remember_for,omitempty"` // for so long, as 24h
	MaxBody     int64  `yaml:"max_body" json:"max_body,omitempty"`         // bytes of one request
}

// server is the part of the configuration that the HTTP interface takes.
func (c *config) server(sc *server.Config) error {
	sc.PublicTiles, sc.RememberIDs, sc.MaxBody = c.PublicTiles, c.HTTP.RememberIDs, c.HTTP.MaxBody
	if c.HTTP.RememberFor != "" {
		d, err := time.ParseDuration(c.HTTP.RememberFor)
		if err != nil || d <= 0 {
			return usageError("configuration: http: remember_for: want a time as 24h")
		}
		sc.RememberFor = d
	}
	return nil
}

const maxConfig = 1 << 20

// loadConfig reads a configuration file; no name is an empty configuration.
func loadConfig(name string) (*config, error) {
	c := new(config)
	if name == "" {
		return c, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usageError("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(text) > maxConfig {
		return nil, usageError("configuration %s: more than %d bytes", name, maxConfig)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, usageError("configuration %s: %w", name, err)
	}
	if err := dec.Decode(new(config)); !errors.Is(err, io.EOF) {
		return nil, usageError("configuration %s: more than one document", name)
	}
	return c, nil
}

// recorder is the part of the configuration that a trail is written by.
func (c *config) recorder(dir string) (recorder.Config, error) {
	rc := recorder.Config{Dir: dir, Origin: c.Origin}
	for _, d := range c.Digests {
		switch d {
		case "sha256":
		case "sm3":
			rc.SM3 = true
		default:
			return rc, usageError("configuration: digests: %q: want sha256 or sm3", d)
		}
	}
	if c.Ack != "" {
		ack, err := recorder.ParseAck(c.Ack)
		if err != nil {
			return rc, usageError("%w", err)
		}
		rc.Ack = ack
	}
	rc.Allow = recorder.DefaultAllowlist()
	if len(c.Allow.Subjects) > 0 {
		rc.Allow.Subjects = c.Allow.Subjects
	}
	if len(c.Allow.Actions) > 0 {
		rc.Allow.Actions = c.Allow.Actions
	}
	if err := rc.Allow.Check(); err != nil {
		return rc, usageError("configuration: allow: %w", err)
	}
	return rc, nil
}

// digest identifies the configuration in effect.
func (c *config) digest() (string, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
