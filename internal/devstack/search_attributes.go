package devstack

import (
	"context"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"google.golang.org/grpc"
)

// SearchAttributes are the names of the search attributes that Tollgate's workflows
// set. All are of type Keyword.
func SearchAttributes() []string {
	return []string{"TollgatePeriod", "TollgateOrganization", "TollgateInstance", "TollgateStage"}
}

// EnsureSearchAttributes registers those of SearchAttributes that a namespace lacks.
func EnsureSearchAttributes(ctx context.Context, conn grpc.ClientConnInterface, namespace string) error {
	operator := operatorservice.NewOperatorServiceClient(conn)
	present, err := operator.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("list the search attributes of namespace %s: %w", namespace, err)
	}
	missing := make(map[string]enumspb.IndexedValueType)
	for _, name := range SearchAttributes() {
		if _, ok := present.GetCustomAttributes()[name]; !ok {
			missing[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	if err != nil {
		return fmt.Errorf("register the search attributes of namespace %s: %w", namespace, err)
	}
	return nil
}
