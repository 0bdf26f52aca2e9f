package documents

import (
	"github.com/riverline/tollgate/billing"

	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

var errMoreInLine = errors.New("something follows the document in its line")

// ReadStatements reads a file of statements, one a line. It ends at the first error,
// [ErrInvalidStatement] with the number of the line, or the reader's own.
func ReadStatements(r io.Reader) iter.Seq2[billing.Statement, error] {
	return func(yield func(billing.Statement, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		for number := 1; ; number++ {
			line, err := readLine(in)
			if errors.Is(err, io.EOF) {
				return
			}
			var s billing.Statement
			if err == nil {
				decoder := json.NewDecoder(strings.NewReader(string(line)))
				decoder.DisallowUnknownFields()
				if err = decoder.Decode(&s); err == nil && decoder.More() {
					err = errMoreInLine
				}
				if err != nil {
					err = fmt.Errorf("%w: %w", billing.ErrInvalidStatement, err)
				}
			}
			if err != nil {
				yield(billing.Statement{}, fmt.Errorf("line %d: %w", number, err))
				return
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// verifyStatements checks sums, numbers and totals.
func verifyStatements(m billing.Manifest, file billing.File, in io.Reader, differs func(format string, args ...any)) {
	totals := map[money.Currency]billing.MoneyTotal{}
	count := 0
	for s, err := range ReadStatements(in) {
		if err == nil {
			err = s.Check()
		}
		if err != nil {
			differs("%v", err)
			return
		}
		count++
		if want := fmt.Sprintf("%s%06d", billing.NumberSeries(m.Period, m.Revision), count); !m.Provisional && s.Number != want {
			differs("statement %d has number %q, not %s", count, s.Number, want)
		}
		total := totals[s.Currency]
		total.Currency, total.Statements, total.Lines = s.Currency, total.Statements+1, total.Lines+int64(len(s.Lines))
		total.Subtotal = money.NewAmount(total.Subtotal.Add(s.Subtotal.Decimal), s.Currency)
		total.Credits = money.NewAmount(total.Credits.Add(s.Credits.Decimal), s.Currency)
		total.Due = money.NewAmount(total.Due.Add(s.Due.Decimal), s.Currency)
		totals[s.Currency] = total
	}
	if int64(count) != file.Rows {
		differs("has %d rows, not %d", count, file.Rows)
	}
	for _, want := range m.Money {
		got := totals[want.Currency]
		if got.Statements != want.Statements || got.Lines != want.Lines || !got.Subtotal.Equal(want.Subtotal.Decimal) ||
			!got.Credits.Equal(want.Credits.Decimal) || !got.Due.Equal(want.Due.Decimal) {
			differs("has %d statements, %d lines and %s due in %s, not %d, %d and %s",
				got.Statements, got.Lines, got.Due, want.Currency, want.Statements, want.Lines, want.Due)
		}
		delete(totals, want.Currency)
	}
	for currency := range totals {
		differs("has statements in %s, which the manifest doesn't name", currency)
	}
}

// verifyLines checks that the lines add up to what is due.
func verifyLines(m billing.Manifest, file billing.File, in io.Reader, differs func(format string, args ...any)) {
	const currencyColumn, amountColumn = 5, 18
	sums, rows := map[string]decimal.Decimal{}, int64(-1)
	records := csv.NewReader(in)
	records.FieldsPerRecord, records.ReuseRecord = len(lineColumns), true
	for {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			differs("%v", err)
			return
		}
		if rows++; rows == 0 {
			continue
		}
		amount, err := money.Parse(record[amountColumn])
		if err != nil {
			differs("line %d: amount %v", rows+1, err)
			return
		}
		sums[record[currencyColumn]] = sums[record[currencyColumn]].Add(amount)
	}
	if rows != file.Rows {
		differs("has %d rows, not %d", rows, file.Rows)
	}
	for _, want := range m.Money {
		if got := sums[string(want.Currency)]; !got.Equal(want.Due.Decimal) {
			differs("its lines in %s add up to %s, not %s", want.Currency, got, want.Due)
		}
	}
}
