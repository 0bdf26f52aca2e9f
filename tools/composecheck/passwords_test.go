package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPasswordsAreDemanded(t *testing.T) {
	for environment, says := range map[string]string{
		`{PASSWORD: "${PW:?say it}"}`:                        "",
		`{URL: "postgres://u:${PW:?say it}@h/d"}`:            "",
		`{PASSWORD: "${PW:-tollgate}"}`:                      "the password in PASSWORD is not demanded",
		`{POSTGRES_PWD: tollgate}`:                           "the password in POSTGRES_PWD is not demanded",
		`{URL: "postgres://u:tollgate@h/d"}`:                 "the password in the URL of URL is not demanded",
		`{GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION: true}`: "",
	} {
		file := filepath.Join(t.TempDir(), "compose.yml")
		text := "name: x\nservices:\n  a: { image: a, environment: " + environment + " }\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := check(file)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", environment, err)
		}
	}
}
