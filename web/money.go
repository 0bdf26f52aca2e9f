package web

import (
	"strings"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
)

// moneyPage shows what the running month comes to.
type moneyPage struct {
	Bill    gen.Bill
	SoFar   statementView
	Credits gen.CreditList
	Meters  []expectedView
}

// Expected is the sum at the month's end.
func (p moneyPage) Expected() billing.Statement { return p.Bill.Expected.Statement }

// expectedView is what a meter has come to, and comes to.
type expectedView struct {
	gen.ExpectedUsage
	Name, Unit string
}

// statementView is a statement whose lines have their arithmetic.
type statementView struct {
	billing.Statement
	Explained []explainedLine
}

type explainedLine struct {
	billing.Line
	Currency money.Currency
	Steps    []string
}

func newStatementView(e gen.ExplainedStatement) statementView {
	out := statementView{Statement: e.Statement}
	for i, l := range e.Statement.Lines {
		line := explainedLine{Line: l, Currency: e.Statement.Currency}
		if i < len(e.Explanation) {
			line.Steps = e.Explanation[i]
		}
		out.Explained = append(out.Explained, line)
	}
	return out
}

func (v *visit) money() error {
	var p moneyPage
	if err := v.get(&p.Bill, v.own("/bill")); err != nil {
		return err
	}
	if err := v.get(&p.Credits, v.own("/credits")); err != nil {
		return err
	}
	var catalog gen.Catalog
	if err := v.get(&catalog, v.own("/plans")); err != nil {
		return err
	}
	p.SoFar, p.Meters = newStatementView(p.Bill.SoFar), expectedViews(p.Bill, catalog)
	return v.page("money", p)
}

func expectedViews(b gen.Bill, catalog gen.Catalog) []expectedView {
	out := make([]expectedView, len(b.Usage))
	for i, u := range b.Usage {
		out[i] = expectedView{ExpectedUsage: u, Name: u.Meter}
		for _, m := range catalog.Meters {
			if m.Key == u.Meter {
				out[i].Name, out[i].Unit = nameOf(catalog.Meters, m.Key), m.Unit
			}
		}
	}
	return out
}

// statementsPage lists the closed months.
type statementsPage struct{ Statements []statementView }

func (v *visit) issued() ([]statementView, error) {
	var found gen.IssuedStatements
	err := v.get(&found, v.own("/statements"))
	out := make([]statementView, len(found.Statements))
	for i, s := range found.Statements {
		out[i] = newStatementView(s)
	}
	return out, err
}

func (v *visit) statements() error {
	found, err := v.issued()
	if err != nil {
		return err
	}
	return v.page("statements", statementsPage{found})
}

// statement shows one statement, as a page or as a file.
func (v *visit) statement() error {
	found, err := v.issued()
	if err != nil {
		return err
	}
	number, asFile := strings.CutSuffix(v.r.PathValue("number"), ".json")
	for _, s := range found {
		if s.Number != number {
			continue
		}
		if asFile {
			return v.file(number+".json", s.Statement)
		}
		return v.page("statement", s)
	}
	return notFound("statement " + number)
}
