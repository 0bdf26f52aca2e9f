package documents_test

import (
	"bytes"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/billing/documents"
)

// documentsOf writes statements and returns the files with their content.
func documentsOf(t require.TestingT, statements []billing.Statement, options documents.Options) ([]billing.File, map[string]*bytes.Buffer) {
	contents := map[string]*bytes.Buffer{}
	d, err := documents.NewStatementWriter(func(name string) (io.Writer, error) {
		contents[name] = &bytes.Buffer{}
		return contents[name], nil
	}, billingtest.Meters, options)
	require.NoError(t, err)
	for _, s := range statements {
		require.NoError(t, d.Write(s))
	}
	require.NoError(t, d.Close())
	return d.Files(), contents
}

// manifestOf describes the files of statements.
func manifestOf(files []billing.File, statements []billing.Statement) billing.Manifest {
	m := billing.Manifest{
		Format: documents.ManifestFormat, Period: billingtest.October, Cut: billingtest.October.End(), Revision: 1, Program: "1", Files: files,
	}
	for _, s := range statements {
		m.Money = []billing.MoneyTotal{{
			Currency: s.Currency, Statements: 1, Lines: int64(len(s.Lines)), Subtotal: s.Subtotal, Credits: s.Credits, Due: s.Due,
		}}
	}
	return m
}

func openAll(contents map[string]*bytes.Buffer) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(contents[name].Bytes())), nil
	}
}

// Every statement that can be made can be written in every form and version, the same
// bytes each time, and what was written verifies; any byte that changes is found.
func TestStatementDocuments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, err := billing.NewStatement(billingtest.AnyMonth.Period(t))
		require.NoError(t, err)
		s.Number = "TG-2026-10-000001"
		options := documents.Options{
			Compress: rapid.Bool().Draw(t, "compress"), Focus: rapid.SampledFrom(documents.FocusVersions()).Draw(t, "focus"),
		}
		statements := []billing.Statement{s}
		files, contents := documentsOf(t, statements, options)
		again, _ := documentsOf(t, statements, options)
		require.Equal(t, files, again)
		manifest := manifestOf(files, statements)
		require.NoError(t, documents.Verify(manifest, openAll(contents)))

		name := documents.FileName(rapid.SampledFrom(documents.StatementFiles()).Draw(t, "file"), options.Compress)
		content := contents[name].Bytes()
		content[rapid.IntRange(0, len(content)-1).Draw(t, "byte")] ^= 1
		require.ErrorIs(t, documents.Verify(manifest, openAll(contents)), documents.ErrMismatch)
	})
}

func TestVerifyStatements(t *testing.T) {
	t.Parallel()
	o := billing.OrganizationPeriod{
		Organization: billingtest.Acme, Currency: "USD", Period: billingtest.October, Cut: billingtest.October.End(), Meters: billingtest.Meters,
		Segments: []billing.Segment{{Start: billingtest.October.Start(), End: billingtest.October.End(), Plan: billingtest.ProPlan()}},
	}
	s, err := billing.NewStatement(o)
	require.NoError(t, err)
	s.Number = "TG-2026-10-000001"
	for says, change := range map[string]func(*billing.Manifest, *billing.Statement){
		`has number "TG-2026-10-000002"`:          func(_ *billing.Manifest, s *billing.Statement) { s.Number = "TG-2026-10-000002" },
		"its lines add up to 49.00":               func(_ *billing.Manifest, s *billing.Statement) { s.Due = s.Credits },
		"has 1 statements, 1 lines and 49.00 due": func(m *billing.Manifest, _ *billing.Statement) { m.Money[0].Lines = 2 },
		"statements in USD, which the manifest":   func(m *billing.Manifest, _ *billing.Statement) { m.Money = nil },
	} {
		changed := s
		manifest := manifestOf(nil, []billing.Statement{s})
		change(&manifest, &changed)
		files, contents := documentsOf(t, []billing.Statement{changed}, documents.Options{})
		manifest.Files = files
		err := documents.Verify(manifest, openAll(contents))
		require.ErrorIs(t, err, documents.ErrMismatch)
		require.ErrorContains(t, err, says)
	}
}

func sequence(statements ...billing.Statement) iter.Seq2[billing.Statement, error] {
	return func(yield func(billing.Statement, error) bool) {
		for _, s := range statements {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	one := func(usage int64) billing.Statement {
		s, err := billing.NewStatement(billing.OrganizationPeriod{
			Organization: billingtest.Acme, OrganizationName: "Acme", Currency: "USD", Period: billingtest.October, Cut: billingtest.October.End(), Meters: billingtest.Meters,
			Segments: []billing.Segment{{
				Start: billingtest.October.Start(), End: billingtest.October.End(), Plan: billingtest.ProPlan(), Usage: []billing.SegmentUsage{{Meter: "calls", Value: usage}},
			}},
		})
		require.NoError(t, err)
		return s
	}
	other := one(7)
	other.Organization = billingtest.Globex
	var found []documents.StatementDifference
	for d, err := range documents.Diff(sequence(one(100)), sequence(one(150), other)) {
		require.NoError(t, err)
		found = append(found, d)
	}
	require.Len(t, found, 2)
	require.Equal(t, "0.5", found[0].Change().String())
	require.Equal(t, []documents.LineDifference{{
		Description: "Calls", Before: "1.00", After: "1.50",
		WhyBefore: []string{"100 call used", "1–100: 100 × 0.01 = 1", "1 = 1.00 USD"},
		WhyAfter:  []string{"150 call used", "1–150: 150 × 0.01 = 1.5", "1.5 = 1.50 USD"},
	}}, found[0].Lines)
	require.Nil(t, found[1].Before)
	require.Equal(t, "49.07", found[1].After.String())
	for d, err := range documents.Diff(sequence(one(5), other), sequence(one(5), other)) {
		require.NoError(t, err)
		t.Fatalf("the same statements differ: %v", d)
	}
	for _, err := range documents.Diff(documents.ReadStatements(strings.NewReader("{}x\n")), sequence()) {
		require.ErrorIs(t, err, billing.ErrInvalidStatement)
	}
}
