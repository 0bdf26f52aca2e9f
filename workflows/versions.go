package workflows

// How to change workflow code
//
// A workflow that is open replays its history with the code of today. A change that
// schedules other commands, or the same ones in another order, breaks it: an
// activity, a child, a timer, a search attribute more or less. Other options of an
// activity, other texts and other results do not.
//
//  1. Name the change in this file, as a constant with the reason and the date:
//
//     const changeRollUpsInParallel = "roll-ups-in-parallel"
//
//  2. Branch on it where the code changes:
//
//     if workflow.GetVersion(ctx, changeRollUpsInParallel, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
//         // as before
//     } else {
//         // as from now on
//     }
//
//  3. Keep a recorded history of the old code in testdata/histories under another name
//     (<name>-before-<change>.json), and record those of the new code beside it:
//     TestReplay replays both.
//
//     go test ./workflows -run TestServer -record
//
//  4. Once no run of the old code is open, raise the least supported version to 1, remove
//     the old branch, and the old history with it. Keep the constant and the call: they
//     are in histories.
//
//     temporal workflow list --query 'WorkflowType = "DailyRollUp" AND ExecutionStatus = "Running"
//     AND (TemporalChangeVersion IS NULL OR TemporalChangeVersion != "roll-ups-in-parallel-1")'
//
// changeHousekeeping was made so; TestReplayOnBothSidesOfAChange holds that both sides replay, and
// that the change without the branch doesn't.
//
// FlushLoop continues as new within a day, rollups end within a day, and exports once finance
// has decided, so old branches live for days, not years.

// changeHousekeeping (2026-11-28): the daily rollup ends with a stage, so that lists of workflows show
// which run left a day out of date, and what else it did is a workflow of its own: a day that can't
// be rolled up stops nothing else.
const changeHousekeeping = "housekeeping-apart"
