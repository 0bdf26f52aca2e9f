-- name: InsertProposal :exec
INSERT INTO proposals (id, kind, content, proposed_by) VALUES ($1, $2, $3, $4);

-- name: Proposal :one
SELECT * FROM proposals WHERE id = $1;

-- name: LockProposal :one
SELECT * FROM proposals WHERE id = $1 FOR UPDATE;

-- name: ListProposals :many
SELECT * FROM proposals
WHERE id > @after AND (sqlc.narg(state)::text IS NULL OR state = sqlc.narg(state))
ORDER BY id LIMIT @page_size;

-- name: DecideProposal :exec
UPDATE proposals SET state = @state, decided_by = @decided_by, decided_at = now(), note = @note WHERE id = @id;
