// Package site serves the repository's documents at /docs: rendered from their Markdown, with
// navigation, anchors and a search, without a script, a network or a sign-in.
//
// docs/README.md is the first page, and its lists are the navigation: a document that is put into one
// of them is on the site. A link between documents leads to the page, one to another file of the
// repository to where that is kept.
package site
