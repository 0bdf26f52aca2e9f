package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Dashboard is one page.
type Dashboard struct {
	// Name is the last part of its UID and the name of its file: "flush".
	Name string
	// Title is what people call it, after "Tollgate / ".
	Title string
	// About says what it is for, in a sentence or two.
	About string
	// Jobs is the regular expression of the scrape jobs that it shows.
	Jobs string
	// Rows are its parts, from the top.
	Rows []Row
}

// Row is a part of a dashboard, under a heading.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is one picture.
type Panel struct {
	// Title is short, and About says what a picture that is right looks like, or what to do.
	Title, About string
	// Unit is Grafana's name of the unit: "s", "ops", "short".
	Unit string
	// Now shows the last value alone, as a number, and not its course.
	Now bool
	// Worry is the value from which a number is red. Zero: it is never. Only with Now.
	Worry float64
	// Queries are what is shown.
	Queries []Query
}

// Query is what a panel asks of Prometheus.
type Query struct {
	// Expr is PromQL. "{$}" and "{$, …}" select what the page's variables say.
	Expr string
	// Legend names a series, by its labels: "{{meter}}".
	Legend string
}

// chosen selects the series of the jobs and instances that the page shows.
const chosen = `job=~"$job", instance=~"$instance"`

// width and height are those of a panel; a page is 24 wide. Numbers are smaller.
const (
	width, height       = 12, 8
	nowWidth, nowHeight = 6, 4
	pageWidth           = 24
)

// UID is the name by which links know the dashboard.
func (d Dashboard) UID() string { return "tollgate-" + d.Name }

// File is the name of its file.
func (d Dashboard) File() string { return d.Name + ".json" }

// JSON returns the dashboard as Grafana reads it.
func (d Dashboard) JSON() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d.model()); err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", d.Name, err)
	}
	return out.Bytes(), nil
}

type object = map[string]any

func (d Dashboard) model() object {
	return object{
		"uid": d.UID(), "title": "Tollgate / " + d.Title, "description": d.About, "tags": []string{"tollgate"},
		"schemaVersion": 39, "version": 1, "editable": false, "timezone": "utc", "refresh": "30s", "graphTooltip": 1,
		"time":        object{"from": "now-6h", "to": "now"},
		"templating":  object{"list": d.variables()},
		"annotations": object{"list": []object{}},
		"links": []object{{
			"type": "dashboards", "title": "Tollgate", "tags": []string{"tollgate"}, "asDropdown": true, "includeVars": false, "keepTime": true,
		}},
		"panels": d.panels(),
	}
}

// variables are the data source, and the jobs and instances that are shown.
func (d Dashboard) variables() []object {
	labels := func(name, title, query string) object {
		return object{
			"name": name, "label": title, "type": "query", "datasource": source, "query": object{"query": query, "refId": name},
			"definition": query, "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".+",
			"current": object{"text": "All", "value": []string{"$__all"}},
		}
	}
	return []object{
		{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
		labels("job", "Job", fmt.Sprintf(`label_values(up{job=~"%s"}, job)`, d.Jobs)),
		labels("instance", "Instance", fmt.Sprintf(`label_values(up{job=~"%s", job=~"$job"}, instance)`, d.Jobs)),
	}
}

// source is the data source that the page's variable says.
var source = object{"type": "prometheus", "uid": "${datasource}"}

// panels places headings, numbers and pictures, from left to right.
func (d Dashboard) panels() []object {
	var out []object
	y := 0
	for _, row := range d.Rows {
		out = append(out, object{
			"id": len(out) + 1, "type": "row", "title": row.Title, "collapsed": false, "panels": []object{},
			"gridPos": object{"x": 0, "y": y, "w": pageWidth, "h": 1},
		})
		y++
		x, lineHeight := 0, 0
		for _, p := range row.Panels {
			w, h := width, height
			if p.Now {
				w, h = nowWidth, nowHeight
			}
			if x+w > pageWidth || (x > 0 && h != lineHeight) {
				x, y = 0, y+lineHeight
			}
			lineHeight = h
			panel := p.model()
			panel["id"], panel["gridPos"] = len(out)+1, object{"x": x, "y": y, "w": w, "h": h}
			out = append(out, panel)
			x += w
		}
		y += lineHeight
	}
	return out
}

func (p Panel) model() object {
	targets := make([]object, len(p.Queries))
	for i, q := range p.Queries {
		expr := strings.NewReplacer("{$}", "{"+chosen+"}", "{$,", "{"+chosen+",").Replace(q.Expr)
		targets[i] = object{"refId": string(rune('A' + i)), "datasource": source, "expr": expr, "legendFormat": q.Legend, "instant": p.Now, "range": !p.Now}
	}
	defaults := object{"unit": p.Unit, "min": 0}
	out := object{
		"title": p.Title, "description": p.About, "datasource": source, "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []object{}},
	}
	if !p.Now {
		out["type"] = "timeseries"
		defaults["custom"] = object{"lineWidth": 1, "fillOpacity": 5, "showPoints": "never"}
		out["options"] = object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
		return out
	}
	out["type"] = "stat"
	steps := []object{{"color": "green", "value": nil}}
	if p.Worry > 0 {
		steps = append(steps, object{"color": "red", "value": p.Worry})
	}
	defaults["thresholds"] = object{"mode": "absolute", "steps": steps}
	out["options"] = object{
		"colorMode": "value", "graphMode": "none", "textMode": "auto",
		"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
	return out
}

// rate shows the rate of a counter, by the labels that its legend names.
func rate(title, about, metric string, by ...string) Panel {
	legend := "all"
	expr := fmt.Sprintf("sum(rate(%s[$__rate_interval]))", metric)
	if len(by) > 0 {
		legend = "{{" + strings.Join(by, "}} {{") + "}}"
		expr = fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval]))", strings.Join(by, ", "), metric)
	}
	return Panel{Title: title, About: about, Unit: "ops", Queries: []Query{{Expr: expr, Legend: legend}}}
}

// level shows a gauge, the highest of those that the labels of its legend don't tell apart.
func level(title, about, unit, metric string, by ...string) Panel {
	legend := "all"
	expr := fmt.Sprintf("max(%s)", metric)
	if len(by) > 0 {
		legend = "{{" + strings.Join(by, "}} {{") + "}}"
		expr = fmt.Sprintf("max by (%s) (%s)", strings.Join(by, ", "), metric)
	}
	return Panel{Title: title, About: about, Unit: unit, Queries: []Query{{Expr: expr, Legend: legend}}}
}

// now shows the last value of an expression as a number, red from worry on.
func now(title, about, unit string, worry float64, expr string) Panel {
	return Panel{Title: title, About: about, Unit: unit, Now: true, Worry: worry, Queries: []Query{{Expr: expr, Legend: title}}}
}

// latency shows the middle and the slow end of a histogram, by the labels that its legend names.
func latency(title, about, histogram string, by ...string) Panel {
	p := Panel{Title: title, About: about, Unit: "s"}
	for _, end := range []struct{ quantile, name string }{{"0.5", "p50"}, {"0.99", "p99"}} {
		legend := end.name
		if len(by) > 0 {
			legend += " {{" + strings.Join(by, "}} {{") + "}}"
		}
		p.Queries = append(p.Queries, Query{
			Expr: fmt.Sprintf("histogram_quantile(%s, sum by (%s) (rate(%s[$__rate_interval])))",
				end.quantile, strings.Join(append([]string{"le"}, by...), ", "), histogram),
			Legend: legend,
		})
	}
	return p
}
