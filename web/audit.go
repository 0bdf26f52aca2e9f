package web

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/audit"
)

// auditPage lists who changed what, the newest first.
type auditPage struct {
	Entries []auditView
	// Kind and Organization are what is looked for; empty: all.
	Kind, Organization string
	Next               string
	Refusal            string
}

// auditKinds are those that can be looked for.
var auditKinds = []string{
	"organization", "contract", "contract_change", "customer", "key", "meter", "plan", "limit", "catalog", "webhook", "credit", "credit_entry",
	"export", "decision", "proposal", "quarantine", "request",
}

// Kinds are all kinds.
func (p auditPage) Kinds() []string { return auditKinds }

// auditView is an entry with what differs.
type auditView struct {
	audit.Entry
	Changes []change
}

func (v *visit) audit() error {
	query := v.r.URL.Query()
	p := auditPage{Kind: query.Get("kind"), Organization: query.Get("organization")}
	var found gen.AuditPage
	err := v.get(&found, "/audit", "kind", p.Kind, "organization_id", p.Organization, "before", query.Get("before"), "limit", "50")
	if refused, ok := refusal(err); ok {
		p.Refusal = refused.Message
		return v.show(refused.Status, "audit", p)
	}
	if err != nil {
		return err
	}
	p.Next = pageAfter(found.Next)
	for _, e := range found.Entries {
		changes, err := changesOf(e.Before, e.After)
		if err != nil {
			return err
		}
		p.Entries = append(p.Entries, auditView{e, changes})
	}
	return v.page("audit", p)
}

// change is one field of a document before and after; empty where it isn't there.
type change struct{ Field, Before, After string }

// changesOf returns the fields of two JSON documents that differ, in the order in which they are written.
func changesOf(before, after json.RawMessage) ([]change, error) {
	old, err := fieldsOf(before)
	if err != nil {
		return nil, err
	}
	now, err := fieldsOf(after)
	if err != nil {
		return nil, err
	}
	var out []change
	for _, f := range now.names {
		if old.values[f] != now.values[f] {
			out = append(out, change{f, old.values[f], now.values[f]})
		}
	}
	for _, f := range old.names {
		if _, kept := now.values[f]; !kept {
			out = append(out, change{f, old.values[f], ""})
		}
	}
	return out, nil
}

// changesBetween returns what two versions of a plan differ in.
func changesBetween(before, after gen.Plan) ([]change, error) {
	old, err := documentOf(before)
	if err != nil {
		return nil, err
	}
	now, err := documentOf(after)
	if err != nil {
		return nil, err
	}
	return changesOf(old, now)
}

// fields are the leaves of a JSON document by their path. What is of a meter or a currency is
// named by that and not by its place: "price_books USD prices evaluations unit_price".
type fields struct {
	names  []string
	values map[string]string
}

func fieldsOf(document json.RawMessage) (fields, error) {
	out := fields{values: map[string]string{}}
	if len(bytes.TrimSpace(document)) == 0 {
		return out, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	return out, out.read(decoder, "")
}

// read adds a value and what is in it. Tokens keep the order of the document.
func (f *fields) read(decoder *json.Decoder, path string) error {
	token, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("read a document: %w", err)
	}
	open, nested := token.(json.Delim)
	if !nested {
		if token != nil {
			f.add(path, fmt.Sprint(token))
		}
		return nil
	}
	for i := 0; decoder.More(); i++ {
		if open == '[' {
			var item json.RawMessage
			if err := decoder.Decode(&item); err != nil {
				return fmt.Errorf("read a document: %w", err)
			}
			inner := json.NewDecoder(bytes.NewReader(item))
			inner.UseNumber()
			if err := f.read(inner, path+" "+nameOfItem(item, i)); err != nil {
				return err
			}
			continue
		}
		name, err := decoder.Token()
		if err != nil {
			return fmt.Errorf("read a document: %w", err)
		}
		if err := f.read(decoder, path+" "+fmt.Sprint(name)); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}

func (f *fields) add(path, value string) {
	path = path[min(1, len(path)):]
	f.names = append(f.names, path)
	f.values[path] = value
}

// nameOfItem is what an element of a list is of, or else its number.
func nameOfItem(item json.RawMessage, i int) string {
	var of struct{ Meter, Currency string }
	if json.Unmarshal(item, &of) == nil && of.Meter+of.Currency != "" {
		return of.Meter + of.Currency
	}
	return fmt.Sprint(i + 1)
}
