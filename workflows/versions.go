package workflows

import "go.temporal.io/sdk/workflow"

// How to change workflow code
//
// A workflow that is open replays its history with the code of today. A change that
// schedules other commands, or the same ones in another order, breaks it: an
// activity, a child, a timer, a search attribute more or less. Other options of an
// activity, other texts and other results do not.
//
//  1. Name the change in this file, with the reason, the date and the types of workflows that it
//     changes, and list it in [Changes]:
//
//     var changeRollUpsInParallel = Change{ID: "roll-ups-in-parallel", Types: []string{"DailyRollUp"}, Most: 1}
//
//  2. Branch on it where the code changes, as early in the workflow as it goes:
//
//     if changeRollUpsInParallel.version(ctx) == workflow.DefaultVersion {
//         // as before
//     } else {
//         // as from now on
//     }
//
//  3. Keep a recorded history of the old code in testdata/histories under another name
//     (<name>-before-<id of the change>.json), and record those of the new code beside it:
//     TestReplay replays both.
//
//     go test ./workflows -run TestServer -record
//
//  4. To drop the branch, raise Least to 1, remove the old code, and the old history with it. The
//     change stays in the list: it is in histories. No worker with that code takes work as long as a run
//     from before the change is open, and it warns of those that Temporal still retains, which can't
//     be reset or queried by it ([starter.CheckChanges]). They are found by
//
//     temporal workflow list --query 'WorkflowType = "DailyRollUp"
//     AND (TemporalChangeVersion IS NULL OR TemporalChangeVersion != "roll-ups-in-parallel-1")'
//
// TestEveryChangeHasItsHistories holds that no branch goes that a recorded history needs, and no
// history of a branch that is there; TestReplayOnBothSidesOfAChange that both sides replay, and that
// the change without the branch doesn't.
//
// What decides how many commands a run gives, a schedule of attempts for instance, is no constant: it
// is in the run's input, so that another value in another version changes nothing that is open.
//
// FlushLoop continues as new within a day, rollups end within a day, and exports once finance
// has decided, so old branches live for days, not years.

// Change is a change of workflow code that open runs meet.
type Change struct {
	// ID names it in histories; it never changes.
	ID string
	// Types are the workflows that it changes.
	Types []string
	// Least is the oldest version for which there still is a branch: [workflow.DefaultVersion] as long
	// as there is one for runs from before the change. Most is the newest.
	Least, Most workflow.Version
}

// version is the side of the change on which a run is.
func (c Change) version(ctx workflow.Context) workflow.Version {
	return workflow.GetVersion(ctx, c.ID, c.Least, c.Most)
}

// Changes returns all changes that were ever made.
func Changes() []Change { return []Change{changeHousekeeping} }

// changeHousekeeping (2026-11-28): the daily rollup ends with a stage, so that lists of workflows show
// which run left a day out of date, and what else it did is a workflow of its own: a day that can't
// be rolled up stops nothing else.
var changeHousekeeping = Change{ID: "housekeeping-apart", Types: []string{"DailyRollUp"}, Least: workflow.DefaultVersion, Most: 1}
