package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
)

// idKind is what an ID may be of.
type idKind struct {
	// whose says what an ID of the kind is.
	whose string
	// find is where to find one; TEXT in it is what was given.
	find string
}

// idKinds are the kinds, by the tag `of` of an argument or a flag.
var idKinds = map[string]idKind{
	"organization": {"an organization's ID", "`tollgate org list --search TEXT` finds it by the begin of the name"},
	"key":          {"an API key's ID", "`tollgate keys list` has those of finance and administrators, with --organization an organization's"},
	"instance":     {"an instance's ID", "the page /instances has them, and so has GET /api/v1/instances"},
	"proposal":     {"a proposal's ID", "`tollgate proposal list` has it"},
	"grant":        {"a credit grant's ID", "`tollgate credit list <organization>` has it"},
	"endpoint":     {"an endpoint's ID", "`tollgate webhook list` has it"},
	"event":        {"an event's ID", "`tollgate events` has it"},
	"quarantine":   {"the ID of something that was set aside", "`tollgate quarantine list` has it"},
}

// decodeID reads an ID on the command line, and says how to find one where it isn't any.
func decodeID(c *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := c.Scan.PopValueInto("id", &text); err != nil {
		return err
	}
	id, err := uuid.Parse(text)
	if err != nil {
		k := idKinds[c.Value.Tag.Get("of")]
		return fmt.Errorf("%q is not %s, which is a UUID: %s", text, k.whose, strings.ReplaceAll(k.find, "TEXT", strconv.Quote(text)))
	}
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.ValueOf(&id))
		return nil
	}
	target.Set(reflect.ValueOf(id))
	return nil
}
