package pgstore

import "sync/atomic"

// takeTurn waits for the turn. It comes before the transaction writes: who waits then has neither a snapshot nor an
// identity that would keep old versions of the records from being pruned.
const takeTurn = `LOCK TABLE usage_turns IN EXCLUSIVE MODE`

// fewRows is how many rows a batch has at most that waits for rows alone. Tests have few, to take turns with few rows.
var fewRows = 256

// turnsTaken is how many flushes in turn follow one that met another writer of its records.
const turnsTaken = 32

// turns decides which flushes take turns. Two that write the same records at once wait for each other row by row, and
// keep old versions of all rows from being pruned meanwhile: together they write less than one. So who met another
// writer has a lock first, of all who did. Who meets nobody takes no lock, and writes beside all others.
type turns struct {
	// left is how many more flushes take turns.
	left atomic.Int64
}

// turn is what a flush does about others that write its records.
type turn struct {
	// taken says that it waits for its turn.
	taken bool
	// looks says that it finds out whether it meets others.
	looks bool
	// met says that it did.
	met bool
}

func (t *turns) next(rows int) turn {
	switch {
	case rows <= fewRows:
		return turn{}
	case t.left.Load() > 0:
		return turn{taken: true}
	}
	return turn{looks: true}
}

func (t *turns) after(done turn) {
	switch {
	case done.met:
		t.left.Store(turnsTaken)
	case done.taken:
		t.left.Add(-1)
	}
}

// putRecords is the query that folds rows into the records. Its answer is the records' values, and whether others were met.
func (t *turn) putRecords() string {
	if t.looks {
		return `SELECT answers, met FROM tollgate_meet_records($1, $2, $3, $4, $5, $6, $7)`
	}
	return `SELECT ARRAY(SELECT tollgate_put_records($1, $2, $3, $4, $5, $6, $7)), false`
}
