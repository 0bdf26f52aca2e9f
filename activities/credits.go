package activities

import (
	"context"
	"time"

	"github.com/riverline/tollgate/billing"
)

// CreditStore keeps prepaid credits.
type CreditStore interface {
	// ExpireCredits takes away what remains of at most limit grants whose time is over at
	// a time, and says of how many.
	ExpireCredits(ctx context.Context, at time.Time, limit int) (int, error)
}

// CreditsConfig is what a [Credits] is made from.
type CreditsConfig struct {
	// Store keeps credits. Required.
	Store CreditStore
	// PageSize is how many grants one transaction expires. Zero: 1,000.
	PageSize int
}

// Credits has the activities on prepaid credits.
type Credits struct{ config CreditsConfig }

// defaultCreditPage keeps the locks of one transaction short.
const defaultCreditPage = 1_000

// NewCredits makes the activities on credits. It panics where a required field of the
// config is missing.
func NewCredits(config CreditsConfig) *Credits {
	if config.Store == nil {
		panic("activities: CreditsConfig.Store is required")
	}
	if config.PageSize == 0 {
		config.PageSize = defaultCreditPage
	}
	return &Credits{config: config}
}

// ExpireCreditsInput says as of when.
type ExpireCreditsInput struct {
	// At is the time at which grants are over. Required.
	At time.Time `json:"at"`
}

// ExpireCredits takes away what remains of all grants whose time is over. Run again, it
// goes on where it stopped.
func (c *Credits) ExpireCredits(ctx context.Context, in ExpireCreditsInput) (billing.ExpiredCredits, error) {
	var expired billing.ExpiredCredits
	if in.At.IsZero() {
		return expired, missing("at")
	}
	beats := startBeating(ctx, in)
	defer beats.stop()
	for {
		n, err := c.config.Store.ExpireCredits(ctx, in.At, c.config.PageSize)
		expired.Grants += n
		if err != nil || n < c.config.PageSize {
			return expired, classify(err)
		}
	}
}
