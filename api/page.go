package api

import "github.com/google/uuid"

const (
	defaultPage = 100
	maxPage     = 1000
)

// pageLimit is the most of a list that an answer has, 1 to [maxPage].
func pageLimit(given *int) (int, error) {
	if given == nil {
		return defaultPage, nil
	}
	if *given < 1 || *given > maxPage {
		return 0, invalid("limit", "must be a whole number, 1 to %d", maxPage)
	}
	return *given, nil
}

// page is a part of a list, in its order.
type page[T any] struct {
	items []T
	// next is the cursor of the page that follows: the ID of the last item. Nil: this is the
	// last page.
	next *uuid.UUID
}

// readPage reads at most limit items from where a cursor says: the `after`, or the `before`,
// that the caller gives, and the zero ID at the start. One more than the page holds tells
// whether there is another.
func readPage[T any](cursor *uuid.UUID, limit int, read func(from uuid.UUID, limit int) ([]T, error), id func(T) uuid.UUID) (page[T], error) {
	found, err := read(orNil(cursor), limit+1)
	if err != nil || len(found) <= limit {
		return page[T]{items: found}, err
	}
	next := id(found[limit-1])
	return page[T]{items: found[:limit], next: &next}, nil
}

// answersOf makes a list of answers, which is empty where there are none: null is no list
// in JSON.
func answersOf[T, A any](list []T, answer func(T) A) []A {
	out := make([]A, 0, len(list))
	for _, item := range list {
		out = append(out, answer(item))
	}
	return out
}

// notNil makes a list that holds nothing an empty one, for the same reason.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// orNil is the zero ID where none is given.
func orNil(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// orAbsent is the other way round.
func orAbsent(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
