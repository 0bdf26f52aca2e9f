package billing

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
)

// CreditKind is what an entry of the ledger of credits records.
type CreditKind string

// The kinds of entries.
const (
	// CreditGranted brings a grant's amount in, once and first.
	CreditGranted CreditKind = "grant"
	// CreditBurned pays a part of an export's invoice.
	CreditBurned CreditKind = "burn"
	// CreditExpired takes what remains after the grant's time.
	CreditExpired CreditKind = "expire"
	// CreditVoided takes what remains because somebody said so.
	CreditVoided CreditKind = "void"
	// CreditRestored gives back what an export burned that was superseded.
	CreditRestored CreditKind = "restore"
)

// CreditAccount is an account of the ledger. Every entry debits one and credits another by the
// same amount, so the sum over all accounts is zero at all times.
type CreditAccount string

// The accounts.
const (
	// AccountCustomerCredit is what is owed to customers: their balances.
	AccountCustomerCredit CreditAccount = "customer_credit"
	// AccountGranted is where credit comes from, and where voided credit goes.
	AccountGranted CreditAccount = "granted"
	// AccountRevenue is what invoices have used.
	AccountRevenue CreditAccount = "revenue"
	// AccountBreakage is what expired unused.
	AccountBreakage CreditAccount = "breakage"
)

// Accounts returns the accounts that entries of the kind debit and credit; both are
// empty for a kind that isn't one. The table of entries has the same rule as a CHECK.
func (k CreditKind) Accounts() (debit, credit CreditAccount) {
	switch k {
	case CreditGranted:
		return AccountGranted, AccountCustomerCredit
	case CreditBurned:
		return AccountCustomerCredit, AccountRevenue
	case CreditExpired:
		return AccountCustomerCredit, AccountBreakage
	case CreditVoided:
		return AccountCustomerCredit, AccountGranted
	case CreditRestored:
		return AccountRevenue, AccountCustomerCredit
	}
	return "", ""
}

// CreditEntry is one line of the ledger. Entries are only ever added.
type CreditEntry struct {
	// ID is a UUIDv7.
	ID           uuid.UUID     `json:"id"`
	Grant        uuid.UUID     `json:"grant_id"`
	Organization uuid.UUID     `json:"organization_id"`
	Kind         CreditKind    `json:"kind"`
	Debit        CreditAccount `json:"debit"`
	Credit       CreditAccount `json:"credit"`
	// Amount is more than 0, in the grant's currency.
	Amount   decimal.Decimal `json:"amount"`
	Currency money.Currency  `json:"currency"`
	// Export is the export that burned or gave back; [uuid.Nil] for the other kinds.
	Export uuid.UUID `json:"export_id,omitzero"`
	// Period and Revision are that export's.
	Period   calendar.Period `json:"period,omitzero"`
	Revision int             `json:"revision,omitempty"`
	// Key makes the entry happen once: "burn/<export>/<grant>".
	Key  string    `json:"key"`
	At   time.Time `json:"at"`
	Note string    `json:"note"`
}

// CreditBalance is what an organization has in a currency.
type CreditBalance struct {
	Currency money.Currency `json:"currency"`
	// Remaining is what remains of all grants; Usable of those that are usable at a time.
	Remaining decimal.Decimal `json:"remaining"`
	Usable    decimal.Decimal `json:"usable"`
}

// CreditBalances adds grants up as of a time: one balance for each of their currencies, in
// the order of the code.
func CreditBalances(grants []CreditGrant, at time.Time) []CreditBalance {
	balances := []CreditBalance{}
	for _, g := range grants {
		i, there := slices.BinarySearchFunc(balances, g.Currency, func(b CreditBalance, c money.Currency) int { return cmp.Compare(b.Currency, c) })
		if !there {
			balances = slices.Insert(balances, i, CreditBalance{Currency: g.Currency})
		}
		balances[i].Remaining = balances[i].Remaining.Add(g.Remaining)
		if g.UsableAt(at) {
			balances[i].Usable = balances[i].Usable.Add(g.Remaining)
		}
	}
	return balances
}

// ExpiredCredits says what [CreditExpired] entries were written.
type ExpiredCredits struct {
	// Grants counts the grants of which something remained after their time.
	Grants int `json:"grants"`
}
