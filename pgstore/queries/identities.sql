-- name: KnownReports :many
SELECT * FROM usage_events WHERE organization_id = $1 AND identity = ANY (@identities::bytea[]);
