package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEverySentinelIsMapped holds that each exported sentinel of the domain is in the table that
// makes HTTP of it and in the one that makes Temporal's errors of it, or never gets there. A
// thing that isn't there is in both by its type.
func TestEverySentinelIsMapped(t *testing.T) {
	const (
		nowhere = "it is an inner step's: who calls that deals with it"
		command = "the command alone meets it"
		start   = "a program that starts alone meets it"
	)
	for _, table := range []struct {
		file string
		// without are the sentinels that never reach the table, and why.
		without map[string]string
	}{
		{"api/error_table.go", map[string]string{
			"fault.ErrInvalid": "it is the root of field errors, which are answered by their type", "plans.ErrQuantity": "it becomes a field error",
			"plans.ErrMeterPublished": nowhere, "plans.ErrTakesTwo": start, "billing.ErrNotClosed": "a workflow refuses with it", "billing.ErrDecidedBefore": "a workflow refuses with it", "billing.ErrLaterPeriodClosed": "a workflow refuses with it",
			"billing.ErrCorrectionsStale": nowhere, "billing.ErrIssuedOtherwise": nowhere, "billing.ErrProvisional": nowhere, "billing.ErrNotIssued": "a workflow refuses with it",
			"billing.ErrCreditChanged": nowhere, "documents.ErrInvalidFocus": command, "documents.ErrInvalidManifest": command, "documents.ErrInvalidUsage": command,
			"billing.ErrInvalidStatement": command, "documents.ErrMismatch": command, "billing.ErrExportNotFrozen": nowhere, "billing.ErrRowsDropped": "a workflow fails with it", "meter.ErrForgotten": start,
			"meter.ErrSequenceGap": nowhere, "meter.ErrAskRefused": nowhere, "meter.ErrAskContested": nowhere, "meter.ErrStoreBehind": nowhere, "meter.ErrNotTakenOver": nowhere, "meter.ErrPaced": nowhere, "sinks.ErrRefused": nowhere,
		}},
		{"activities/classify.go", map[string]string{
			"fault.ErrInvalid": "stores say that it is not retryable", "accounts.ErrCurrencyFixed": "the API alone meets it", "accounts.ErrWriteUnderWay": "the API alone meets it",
			"accounts.ErrWriteReused": "the API alone meets it", "accounts.ErrProposalDecided": "the API alone meets it", "plans.ErrInvalidCatalog": "the API alone meets it", "plans.ErrVersionPublished": "the API alone meets it",
			"plans.ErrMeterPublished": "the API alone meets it", "plans.ErrTakesTwo": start, "meter.ErrForgotten": start, "plans.ErrQuantity": "the API alone meets it", "billing.ErrNotRated": "the API alone meets it",
			"billing.ErrCreditSpent": "the API alone meets it", "billing.ErrCannotRate": "the organization is parked", "billing.ErrInvalidStatement": command, "documents.ErrMismatch": command,
			"meter.ErrIdentityReused": "the API alone meets it", "meter.ErrReservationEnded": "the API alone meets it", "meter.ErrAskRefused": nowhere, "meter.ErrAskContested": nowhere, "meter.ErrStoreBehind": nowhere,
			"meter.ErrQuantityOverflow": "the API alone meets it", "meter.ErrContractEnded": "the API alone meets it", "meter.ErrQuarantineDecided": "the API alone meets it",
			"meter.ErrQuarantineRefused": "the API alone meets it", "meter.ErrUnavailable": "the API alone meets it", "meter.ErrTooManyIdentified": "the API alone meets it", "meter.ErrQuotaRefused": "the API alone meets it", "meter.ErrNotTakenOver": nowhere, "meter.ErrPaced": nowhere,
			"webhooks.ErrTooManyEndpoints": "the API alone meets it", "sinks.ErrRefused": "sinks say that it is not retryable",
		}},
	} {
		source, err := os.ReadFile(filepath.Join("..", "..", table.file))
		require.NoError(t, err)
		sentinels := domainSentinels(t)
		for _, name := range slices.Sorted(maps.Keys(sentinels)) {
			mapped := regexp.MustCompile(`\{` + regexp.QuoteMeta(name) + `,`).Match(source)
			switch _, without := table.without[name]; {
			case mapped && without:
				t.Errorf("%s: %s is there, and said not to be", table.file, name)
			case !mapped && !without && !sentinels[name]:
				t.Errorf("%s: %s is not there", table.file, name)
			}
		}
		for name := range table.without {
			require.Contains(t, sentinels, name, "%s: a sentinel that isn't there needs no reason", table.file)
		}
	}
}

// domainSentinels returns the exported sentinels of the domain, and whether each is a kind of
// thing that isn't there.
func domainSentinels(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, folder := range []string{"fault", "accounts", "plans", "billing", "billing/documents", "meter", "webhooks", "events", "sinks"} {
		packages := token.NewFileSet()
		files, err := filepath.Glob(filepath.Join("..", "..", folder, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(packages, name, nil, 0)
			require.NoError(t, err)
			for _, d := range file.Decls {
				values, ok := d.(*ast.GenDecl)
				if !ok || values.Tok != token.VAR {
					continue
				}
				for _, spec := range values.Specs {
					one := spec.(*ast.ValueSpec)
					if n := one.Names[0].Name; strings.HasPrefix(n, "Err") && len(one.Values) == 1 {
						switch one.Values[0].(type) {
						case *ast.UnaryExpr, *ast.SelectorExpr:
							found[path.Base(folder)+"."+n] = true
						default:
							found[path.Base(folder)+"."+n] = false
						}
					}
				}
			}
		}
	}
	return found
}
