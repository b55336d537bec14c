package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

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
	Log         logConfig   `yaml:"log" json:"log"`

	Schemas []schemaConfig `yaml:"schemas" json:"schemas,omitempty"` // forms of JSON besides the event and the flat record
}

// schemaConfig is a form in which events arrive: docs/format/schemas.md.
type schemaConfig struct {
	Name  string            `yaml:"name" json:"name"`
	File  string            `yaml:"file" json:"file"` // a JSON Schema
	Match matchConfig       `yaml:"match" json:"match"`
	Map   map[string]string `yaml:"map" json:"map,omitempty"`

	text   []byte // what File holds
	SHA256 string `yaml:"-" json:"sha256"` // of it
}

type matchConfig struct {
	Member string `yaml:"member" json:"member,omitempty"`
	Value  string `yaml:"value" json:"value,omitempty"`
}

type allowConfig struct {
	Subjects []string `yaml:"subjects" json:"subjects,omitempty"`
	Actions  []string `yaml:"actions" json:"actions,omitempty"`
}

type tlsConfig struct {
	Cert string `yaml:"cert" json:"cert,omitempty"`
	Key  string `yaml:"key" json:"key,omitempty"`
}

const maxConfig = 1 << 20

// loadConfig reads a configuration file; no name is an empty configuration.
func loadConfig(name string) (*config, error) {
	if name == "" {
		return new(config), nil
	}
	text, err := readConfig(name)
	if err != nil {
		return nil, err
	}
	c, t := parseConfig(text)
	if len(t.problems) == 0 {
		return c, c.readSchemas()
	}
	lines := []string{"configuration:"}
	for _, p := range t.problems {
		lines = append(lines, fmt.Sprintf("  %s:%s", name, p))
	}
	return nil, usageError("%s", strings.Join(lines, "\n"))
}

func readConfig(name string) ([]byte, error) {
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
	return text, nil
}

// readSchemas reads the files that the configuration names.
func (c *config) readSchemas() (err error) {
	for i := range c.Schemas {
		s := &c.Schemas[i]
		if s.text, err = readBounded(s.File); err != nil {
			return usageError("configuration: schemas: %s: %w", s.Name, err)
		}
		sum := sha256.Sum256(s.text)
		s.SHA256 = hex.EncodeToString(sum[:])
	}
	return nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("%s: more than %d bytes", name, maxConfig)
	}
	return text, err
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
	rc.Shapes = c.shapes()
	if err := recorder.CheckShapes(rc.Shapes); err != nil {
		return rc, usageError("configuration: schemas: %w", err)
	}
	return rc, nil
}

// shapes are the forms of JSON that the configuration adds. Its files have been read.
func (c *config) shapes() []recorder.Shape {
	var all []recorder.Shape
	for _, s := range c.Schemas {
		all = append(all, recorder.Shape{Name: s.Name, Schema: s.text, Match: recorder.Match(s.Match), Map: s.Map})
	}
	return all
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

// tlsConfig is nil when there is no certificate.
func (c *config) tlsConfig() (*tls.Config, error) {
	if c.TLS.Cert == "" && c.TLS.Key == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return nil, usageError("tls: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
