package plans

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// amountError says that what is written is no amount.
type amountError struct {
	written string
	rule    error
}

func (e *amountError) Error() string { return e.rule.Error() }

// readAmount reads an amount as it is written: without quotes it is a number to YAML, and
// would lose digits as a float.
func readAmount(d *decimal.Decimal, written []byte) error {
	text := strings.TrimSpace(string(written))
	if len(text) > 1 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0] {
		text = text[1 : len(text)-1]
	}
	read, err := money.Parse(text)
	if err != nil {
		return &amountError{strings.TrimSpace(string(written)), err}
	}
	*d = read
	return nil
}

// readError says what is wrong with a document, and where.
func readError(document []byte, err error) string {
	var amount *amountError
	if !errors.As(err, &amount) {
		return yaml.FormatError(err, false, false)
	}
	file, parseErr := parser.ParseBytes(document, 0)
	if parseErr != nil {
		return amount.Error()
	}
	find := &amountFinder{written: amount.written, field: "amount"}
	for _, d := range file.Docs {
		ast.Walk(find, d)
	}
	return fmt.Sprintf("%s: %s", find.field, amount)
}

// amountFields are those that hold amounts.
var amountFields = []string{"amount", "minimum", "discount_percent", "unit_price", "flat_fee", "package_price"}

// amountFinder finds the first amount that is written so: the reader isn't told its place.
type amountFinder struct {
	written, field string
	found          bool
}

// Visit looks at a node.
func (f *amountFinder) Visit(node ast.Node) ast.Visitor {
	entry, ok := node.(*ast.MappingValueNode)
	if ok && !f.found && slices.Contains(amountFields, entry.Key.String()) && strings.TrimSpace(entry.Value.String()) == f.written {
		f.found, f.field = true, strings.TrimPrefix(entry.Value.GetPath(), "$.")
	}
	return f
}
