package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/meter"
)

// BeginUsageKey says what becomes of a batch of reports that bears an idempotency key: nil
// means that the caller carries it out, and ends it with [Store.EndUsageKey]; an answer, that it
// was carried out before and was answered so. One that is under way is
// [accounts.ErrWriteUnderWay], a key that came with other items [meter.ErrIdentityReused]. What
// was begun [accounts.WriteTimeout] ago and has not ended is the caller's: its process has ended.
func (s *Store) BeginUsageKey(ctx context.Context, organization uuid.UUID, key meter.BatchKey) (answer []byte, err error) {
	err = s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO usage_keys AS k (organization_id, identity, fingerprint, begun_at) VALUES ($1, $2, $3, clock_timestamp())
			ON CONFLICT (organization_id, identity) DO UPDATE SET begun_at = clock_timestamp(), ended_at = NULL
			WHERE k.fingerprint = excluded.fingerprint AND k.answer IS NULL
				AND (k.ended_at IS NOT NULL OR k.begun_at < clock_timestamp() - make_interval(secs => $4))`,
			organization, key.Identity[:], key.Fingerprint[:], accounts.WriteTimeout.Seconds())
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		var fingerprint []byte
		err = tx.QueryRow(ctx, `SELECT fingerprint, answer FROM usage_keys WHERE organization_id = $1 AND identity = $2`,
			organization, key.Identity[:]).Scan(&fingerprint, &answer)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			// It was forgotten just now: the caller may ask again.
			return accounts.ErrWriteUnderWay
		case err != nil:
			return err
		case !bytes.Equal(fingerprint, key.Fingerprint[:]):
			return meter.ErrIdentityReused
		case answer == nil:
			return accounts.ErrWriteUnderWay
		}
		return nil
	})
	if err != nil {
		answer = nil
	}
	return answer, wrap(err, "begin a batch of organization %s", organization)
}

// EndUsageKey ends what [Store.BeginUsageKey] has given to the caller. The answer is given
// again where the batch comes again; nil: it is carried out again then.
func (s *Store) EndUsageKey(ctx context.Context, organization uuid.UUID, key meter.BatchKey, answer []byte) error {
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		_, err := tx.Exec(ctx, `
			UPDATE usage_keys SET ended_at = clock_timestamp(), answer = $4
			WHERE organization_id = $1 AND identity = $2 AND fingerprint = $3 AND answer IS NULL`,
			organization, key.Identity[:], key.Fingerprint[:], answer)
		return err
	})
	return wrap(err, "end a batch of organization %s", organization)
}

// batchKeyOf is a key of an organization's request.
type batchKeyOf struct {
	organization uuid.UUID
	key          meter.BatchKey
}

// bind binds the keys of requests that identified reports came in, where nobody has bound them, and
// refuses the identified reports whose key is bound to another request. It returns the places of the others.
func (e *identifiedReports) bind(ctx context.Context, tx scoped, places []meter.BatchPlace) (free []meter.BatchPlace, err error) {
	var keys []batchKeyOf
	for _, p := range places {
		if key := e.at(p).Batch; key != (meter.BatchKey{}) {
			keys = append(keys, batchKeyOf{e.rows[p.Row].Organization, key})
		}
	}
	if len(keys) == 0 {
		return places, nil
	}
	slices.SortFunc(keys, compareBatchKeys)
	keys = slices.Compact(keys)
	reused := map[batchKeyOf]bool{}
	for chunk := range slices.Chunk(keys, chunkRows) {
		if err := bindKeys(ctx, tx, chunk, reused); err != nil {
			return nil, err
		}
	}
	for _, p := range places {
		if reused[batchKeyOf{e.rows[p.Row].Organization, e.at(p).Batch}] {
			e.refuse(p)
			continue
		}
		free = append(free, p)
	}
	return free, nil
}

func compareBatchKeys(a, b batchKeyOf) int {
	return cmp.Or(
		bytes.Compare(a.organization[:], b.organization[:]),
		bytes.Compare(a.key.Identity[:], b.key.Identity[:]),
		bytes.Compare(a.key.Fingerprint[:], b.key.Fingerprint[:]),
	)
}

// bindKeys binds keys, which are in order, and adds those to reused that were bound to another
// request. It waits for other batches that have bound the same key and not ended.
func bindKeys(ctx context.Context, tx scoped, keys []batchKeyOf, reused map[batchKeyOf]bool) error {
	var organizations [][16]byte
	var identities, fingerprints [][]byte
	for i := range keys {
		organizations = append(organizations, keys[i].organization)
		identities = append(identities, keys[i].key.Identity[:])
		fingerprints = append(fingerprints, keys[i].key.Fingerprint[:])
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO usage_keys (organization_id, identity, fingerprint, begun_at, ended_at)
		SELECT organization_id, identity, fingerprint, clock_timestamp(), clock_timestamp()
		FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS k (organization_id, identity, fingerprint)
		ON CONFLICT (organization_id, identity) DO NOTHING`, organizations, identities, fingerprints); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		SELECT r.place
		FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS r (organization_id, identity, fingerprint, place)
		CROSS JOIN LATERAL (
			SELECT k.fingerprint FROM usage_keys k WHERE k.organization_id = r.organization_id AND k.identity = r.identity OFFSET 0
		) AS k
		WHERE k.fingerprint <> r.fingerprint`, organizations, identities, fingerprints)
	if err != nil {
		return err
	}
	var place int
	_, err = pgx.ForEachRow(rows, []any{&place}, func() error {
		reused[keys[place-1]] = true
		return nil
	})
	return err
}

// noteConflicts keeps those of the identified reports that aren't counted which differ from what was
// counted under their identity, or of whose identity nothing was: somebody was told that
// they count. It returns how many there are.
func (e *identifiedReports) noteConflicts(ctx context.Context, tx scoped, id meter.BatchID) (found int, err error) {
	for chunk := range slices.Chunk(e.repeated(), chunkRows) {
		a := e.arrays(chunk)
		tag, err := tx.Exec(ctx, `
			INSERT INTO usage_conflicts (organization_id, identity, fingerprint, meter, day, quantity, at, instance_id, seq)
			SELECT r.organization_id, r.identity, r.fingerprint, r.meter, date '1970-01-01' + r.day, r.quantity, r.at, $1, $2
			FROM (
				SELECT ($9::uuid[])[kind] AS organization_id, identity, fingerprint, ($3::text[])[($10::int4[])[kind]] AS meter,
					($11::int4[])[kind] AS day, quantity, at
				FROM unnest($4::int4[], $5::bytea[], $6::bytea[], $7::int8[], $8::timestamptz[]) AS k (kind, identity, fingerprint, quantity, at)
			) AS r
			LEFT JOIN LATERAL (
				SELECT e.fingerprint FROM usage_events e WHERE e.organization_id = r.organization_id AND e.identity = r.identity OFFSET 0
			) AS e ON true
			WHERE e.fingerprint IS NULL OR e.fingerprint <> r.fingerprint
			ON CONFLICT DO NOTHING`,
			id.Instance, id.Seq, a.texts, a.kinds, a.identities, a.fingerprints, a.quantities, a.ats, a.organizations, a.meters, a.days)
		if err != nil {
			return 0, err
		}
		found += int(tag.RowsAffected())
	}
	return found, nil
}
