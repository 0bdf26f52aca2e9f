-- name: PutCustomer :exec
INSERT INTO organization_customers (organization_id, sink, external_id) VALUES ($1, $2, $3)
ON CONFLICT (organization_id, sink) DO UPDATE SET external_id = excluded.external_id, updated_at = now()
WHERE organization_customers.external_id <> excluded.external_id;

-- name: Customers :many
SELECT organization_id, external_id FROM organization_customers
WHERE sink = @sink AND organization_id = ANY(@organizations::uuid[]);

-- name: MarkDelivered :exec
INSERT INTO statement_deliveries (export_id, organization_id, sink, external_id) VALUES (@export_id, @organization_id, @sink, @external_id)
ON CONFLICT (export_id, organization_id, sink) DO NOTHING;

-- name: Deliveries :many
SELECT organization_id, external_id FROM statement_deliveries
WHERE export_id = @export_id AND sink = @sink AND organization_id = ANY(@organizations::uuid[]);
