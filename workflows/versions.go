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
//  3. Keep the recorded histories of the old code in testdata/histories under other
//     names, and record those of the new code beside them: TestReplay replays both.
//
//     go test ./workflows -run TestServer -record
//
//  4. Once no run of the old code is open (`temporal workflow list --query
//     'TemporalChangeVersion IS NULL AND ExecutionStatus = "Running"'`), raise the
//     least supported version to 1, remove the old branch, and the old histories with it.
//     Keep the constant and the call: they are in histories.
//
// FlushLoop continues as new within a day, exports and rollups end within days, so old
// branches live for days, not years.
