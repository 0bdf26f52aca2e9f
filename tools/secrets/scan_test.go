// Package secrets holds the scan for secrets by itself: `make lint` runs gitleaks with gitleaks.toml.
package secrets

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/viper"
	"github.com/zricethezav/gitleaks/v8/config"
	"github.com/zricethezav/gitleaks/v8/detect"
	"github.com/zricethezav/gitleaks/v8/report"
)

// rules reads gitleaks.toml. Gitleaks extends its own rules once in a process.
var rules = sync.OnceValues(func() (config.Config, error) {
	settings := viper.New()
	settings.SetConfigFile("gitleaks.toml")
	if err := settings.ReadInConfig(); err != nil {
		return config.Config{}, err
	}
	var raw config.ViperConfig
	if err := settings.Unmarshal(&raw); err != nil {
		return config.Config{}, err
	}
	return raw.Translate()
})

// scanner is gitleaks as `make lint` runs it.
func scanner(t *testing.T) *detect.Detector {
	t.Helper()
	r, err := rules()
	if err != nil {
		t.Fatal(err)
	}
	return detect.NewDetector(r)
}

func random(bytes int) []byte {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return b
}

// The secrets are made here, so that this file has none.
func TestFindsSecrets(t *testing.T) {
	s := scanner(t)
	key := base64.RawURLEncoding.EncodeToString(random(32))
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: random(300)})
	for rule, planted := range map[string]string{
		"tollgate-api-key":       "curl -H 'Authorization: Bearer tg_admin_" + key + "'",
		"webhook-signing-secret": "secret: whsec_" + base64.StdEncoding.EncodeToString(random(32)),
		"stripe-access-token":    "TOLLGATE_STRIPE_KEY=sk_live_" + strings.NewReplacer("-", "a", "_", "b").Replace(key),
		"private-key":            string(private),
		"aws-access-token":       "id = AKIA" + "Q3EGRN7XKZ5WVB2T",
	} {
		found := slices.ContainsFunc(s.DetectString(planted), func(f report.Finding) bool { return f.RuleID == rule })
		if !found {
			t.Errorf("no %s is found in %s", rule, planted)
		}
	}
}

func TestLetsThroughWhatIsNone(t *testing.T) {
	s := scanner(t)
	for _, harmless := range []string{
		`"prefix":"tg_tenant_5kQx","secret":"tg_tenant_5kQx…"`,
		"Authorization: Bearer tg_tenant_1",
		`"whsec_bmV3"`,
		"POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?}",
	} {
		if found := s.DetectString(harmless); len(found) > 0 {
			t.Errorf("%s is taken for a %s", harmless, found[0].RuleID)
		}
	}
}

// What is let through in tests is let through there alone.
func TestLetsSettingsThroughInTests(t *testing.T) {
	s := scanner(t)
	text := `{"the key", "TOLLGATE_DURABILITY=tape"}, "key", "TOLLGATE_FLUSH_INTERVAL=1ms"`
	if found := s.Detect(detect.Fragment{Raw: text, FilePath: "e2e/commands_test.go"}); len(found) > 0 {
		t.Errorf("a test's setting is taken for a %s", found[0].RuleID)
	}
	key := "tg_admin_" + base64.RawURLEncoding.EncodeToString(random(32))
	if found := s.Detect(detect.Fragment{Raw: "TOLLGATE_ADMIN_KEY=" + key, FilePath: "e2e/commands_test.go"}); len(found) == 0 {
		t.Error("a key in a test isn't found")
	}
}
