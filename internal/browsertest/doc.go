// Package browsertest drives a headless Chromium through the pages as a person does, and has
// axe-core look at each. It is built with the tag browser alone: `make test-browser`.
package browsertest
