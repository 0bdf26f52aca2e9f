// Package documents is the files of an export and the forms of them: usage as JSON Lines
// and CSV, statements as JSON Lines, CSV and FOCUS, the manifest that lets anybody check
// them, what differs between two revisions, and the tables of a dry run.
//
// The same frozen usage gives the same bytes: every document has one order and one form.
// What is written is made in the package billing, which knows nothing of files.
package documents
