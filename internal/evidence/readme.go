package evidence

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
)

//go:embed readme.md.tmpl
var readmeText string

var readmeTemplate = template.Must(template.New("readme").Parse(readmeText))

//go:embed check_event.py
var checkScript string

// makeReadme writes README.md for the expert who opens the case. All it says of
// this case is plain: names and numbers that Config.check and Manifest.check
// found to be single lines.
func makeReadme(c *Config, m *Manifest) ([]byte, error) {
	page := struct {
		*Manifest
		SM3    bool
		Key    string
		Script string
	}{m, c.SM3Root != nil, c.VKeys[0], checkScript}
	var b bytes.Buffer
	if err := readmeTemplate.Execute(&b, &page); err != nil {
		return nil, fmt.Errorf("case: %s: %w", ReadmeFile, err)
	}
	return b.Bytes(), nil
}
