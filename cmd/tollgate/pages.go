package main

import (
	"context"
	"net/url"
	"strconv"

	"github.com/google/uuid"
)

// pageSize is how many things a list's page has: the most that the API gives at once.
const pageSize = 1000

// cursor is the member with which a page says where the next one begins; the last has none.
type cursor struct {
	Next *uuid.UUID `json:"next,omitempty"`
}

func (c cursor) next() *uuid.UUID { return c.Next }

// pageQuery is what is asked of a list, page by page.
type pageQuery struct {
	method, path string
	// query is what is asked of each page; take may narrow it for those that follow. Nil: nothing.
	query url.Values
	// in is the body. Nil: there is none.
	in any
	// newestFirst says that pages go back in time: the next one is before a cursor, and not after it.
	newestFirst bool
}

// eachPage asks for the pages of a list, and hands each to take before it asks for the next.
func eachPage[P interface{ next() *uuid.UUID }](ctx context.Context, c *client, q pageQuery, take func(P) error) error {
	if q.query == nil {
		q.query = url.Values{}
	}
	q.query.Set("limit", strconv.Itoa(pageSize))
	for {
		var page P
		if err := c.call(ctx, q.method, q.path+"?"+q.query.Encode(), q.in, &page); err != nil {
			return err
		}
		if err := take(page); err != nil {
			return err
		}
		after := page.next()
		if after == nil {
			return nil
		}
		from := "after"
		if q.newestFirst {
			from = "before"
		}
		q.query.Set(from, after.String())
	}
}

// everyPage gathers what the pages of a list have, in their order. Of nothing it is an empty list, which is no null in JSON.
func everyPage[P interface{ next() *uuid.UUID }, T any](ctx context.Context, c *client, q pageQuery, of func(P) []T) ([]T, error) {
	all := []T{}
	err := eachPage(ctx, c, q, func(page P) error {
		all = append(all, of(page)...)
		return nil
	})
	return all, err
}
