package starter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/workflows"
)

// ErrSearchAttributes says that search attributes are missing in a namespace, or may
// be, and could not be registered. Its text says how to do it by hand. Without them
// workflows can't be started.
var ErrSearchAttributes = errors.New("search attributes are not registered")

// EnsureSearchAttributes registers the search attributes that a namespace lacks. Where
// the server lets nobody do this over its API (Temporal Cloud) or doesn't let this
// client, it is [ErrSearchAttributes].
func EnsureSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	present, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return byHand(err, namespace, nil)
	}
	missing := map[string]enumspb.IndexedValueType{}
	for _, key := range workflows.SearchAttributes() {
		kind, ok := present.GetCustomAttributes()[key.GetName()]
		switch {
		case !ok:
			missing[key.GetName()] = key.GetValueType()
		case kind != key.GetValueType():
			return fmt.Errorf("namespace %s has the search attribute %s as %s, and it must be %s", namespace, key.GetName(), kind, key.GetValueType())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: namespace, SearchAttributes: missing,
	})
	var exists *serviceerror.AlreadyExists
	if errors.As(err, &exists) {
		// Another process was faster.
		return nil
	}
	return byHand(err, namespace, missing)
}

// byHand says what an operator has to do where this client may not.
func byHand(err error, namespace string, missing map[string]enumspb.IndexedValueType) error {
	var denied *serviceerror.PermissionDenied
	var unimplemented *serviceerror.Unimplemented
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &denied) && !errors.As(err, &unimplemented):
		return fmt.Errorf("register search attributes in namespace %s: %w", namespace, err)
	}
	var names []string
	for _, key := range workflows.SearchAttributes() {
		if _, ok := missing[key.GetName()]; ok || missing == nil {
			names = append(names, key.GetName())
		}
	}
	return fmt.Errorf("%w: the server doesn't let this client look or add (%w). Make sure that namespace %s has them, each of type Keyword: %s. "+
		"With `temporal operator search-attribute create --namespace %s --type Keyword --name NAME`, or on Temporal Cloud with "+
		"`tcld namespace search-attributes add --namespace %s --sa NAME=Keyword`",
		ErrSearchAttributes, err, namespace, strings.Join(names, ", "), namespace, namespace)
}
