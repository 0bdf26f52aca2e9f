package pgstore

import "context"

// crowd is how many batches may wait to be folded before a flush waits for its turn to fold: writers are never far
// ahead of the records.
const crowd = 8

// fold folds batches that wait, in a transaction of its own. They count as they are, so that a failure is only said.
func (s *Store) fold(ctx context.Context, waiting int) {
	err := s.asPlatformFolding(ctx, func(ctx context.Context, tx scoped) error {
		_, err := tx.Exec(ctx, `SELECT tollgate_fold_usage($1)`, waiting > crowd)
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "Batches wait to be folded into the usage records: the next flush tries again", "waiting", waiting, "error", err)
	}
}
