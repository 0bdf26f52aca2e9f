// Package grafana says what the dashboards show, and makes the JSON that Grafana reads: the files of
// the folder dashboards are written by `go generate`.
package grafana

//go:generate go run ./generate
