// Package ops holds nothing but tests: of the alert rules in prometheus, of the dashboards in
// grafana, and of what both say about the metrics in metrics.txt. It is a module of its own, so that
// Prometheus is no dependency of the product.
package ops
