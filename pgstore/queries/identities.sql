-- name: KnownReports :many
-- Each is looked up by itself: before the first statistics of an organization's reports, a plan for all at once reads
-- every report of the organization and filters those.
SELECT e.* FROM unnest(@identities::bytea[]) AS asked (identity)
CROSS JOIN LATERAL (
    SELECT * FROM usage_events u WHERE u.organization_id = @organization_id AND u.identity = asked.identity LIMIT 1
) AS e;
