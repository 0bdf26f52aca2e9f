package pgstore

import (
	"context"
)

// planToFold has the statements of a transaction planned for many rows. Under row-level security the
// planner expects one of 200, and would look up each of millions by itself.
func planToFold(ctx context.Context, tx scoped) error {
	if err := tx.AvoidNestedLoops(ctx); err != nil {
		return err
	}
	if err := tx.PlanEachTime(ctx); err != nil {
		return err
	}
	return tx.FoldInMemory(ctx)
}

// foldDay is the start of a statement that folds the batch rows of one day: common
// table expressions of which `fresh` has one row for each organization and meter.
// It needs
//
//	$1 the day, $3 its start and $4 the end of what is counted of it,
//	a table expression `batch_rows`: the rows of usage_batch_rows that count, not
//	  materialized, as it is read twice,
//	a table expression `opening` (organization_id, meter, value): the levels of
//	  snapshots at the start of the day.
//
// Sums add and peaks keep the greatest. A batch adds to the record what it adds here, and a
// record is bounded, so that the cap is never reached but by rows that somebody has changed:
// then a variance shows it, and no other organization waits. A snapshot is a level that holds until the
// next report: its value is the last level, and its unit-seconds are the integral
// of the level from $3 to $4, beginning with the opening level, to the microsecond. Where the day has no report, the opening level is carried: the row says so.
// A level of zero is not carried.
//
// Of two reports with the same time the record's choice counts, and then the later
// batch: the order in which they were applied is not kept.
const foldDay = `,
	counted AS (
		SELECT r.organization_id, r.meter,
			CASE m.aggregation WHEN 'sum' THEN least(sum(r.value), 9223372036854775807) ELSE max(r.value) END::bigint AS value
		FROM batch_rows r
		JOIN meters m ON m.key = r.meter AND m.aggregation <> 'last'
		GROUP BY r.organization_id, r.meter, m.aggregation
	),
	reports AS (
		SELECT r.organization_id, r.meter, r.value,
			greatest($3::timestamptz, least(r.at, $4::timestamptz)) AS holds_from,
			lead(greatest($3::timestamptz, least(r.at, $4::timestamptz)), 1, $4::timestamptz) OVER following AS holds_until,
			lead(true, 1, false) OVER following AS followed
		FROM batch_rows r
		JOIN meters m ON m.key = r.meter AND m.aggregation = 'last'
		LEFT JOIN usage_daily u ON u.organization_id = r.organization_id AND u.meter = r.meter AND u.day = $1::date
		WINDOW following AS (
			PARTITION BY r.organization_id, r.meter
			ORDER BY r.at, coalesce(u.last_at = r.at AND u.value = r.value, false), r.seq, r.instance_id, r.plan COLLATE "C", r.plan_version)
	),
	levels AS (
		SELECT organization_id, meter,
			max(value) FILTER (WHERE NOT followed) AS value,
			min(holds_from) AS first_at,
			sum(value * extract(epoch FROM holds_until - holds_from)) AS unit_seconds
		FROM reports
		GROUP BY organization_id, meter
	),
	fresh AS (
		SELECT organization_id, meter, value, false AS carried, NULL::numeric AS unit_seconds
		FROM counted
		UNION ALL
		SELECT organization_id, meter, coalesce(l.value, o.value), l.value IS NULL,
			trim_scale(coalesce(o.value, 0) * extract(epoch FROM coalesce(l.first_at, $4::timestamptz) - $3::timestamptz)
				+ coalesce(l.unit_seconds, 0))
		FROM opening o
		FULL JOIN levels l USING (organization_id, meter)
		WHERE l.value IS NOT NULL OR o.value > 0
	)`

// levelsBefore is the table expression `opening` of a day ($1) that continues a
// rolled day ($2, NULL where there is none): its levels, and over them the
// records of the days since then. A record of the rolled day itself is newer
// where usage came after the rollup.
const levelsBefore = `opening AS (
		SELECT DISTINCT ON (organization_id, meter) organization_id, meter, value
		FROM (
			SELECT r.organization_id, r.meter, r.value, r.day, false AS recorded
			FROM usage_rolled r
			JOIN meters m ON m.key = r.meter AND m.aggregation = 'last'
			WHERE r.day = $2::date
			UNION ALL
			SELECT u.organization_id, u.meter, u.value, u.day, true
			FROM usage_daily u
			JOIN meters m ON m.key = u.meter AND m.aggregation = 'last'
			WHERE u.day >= coalesce($2::date, '-infinity') AND u.day < $1::date
		) AS known
		ORDER BY organization_id, meter, day DESC, recorded DESC
	)`
