package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machineFacts are the configuration lines that a table shows, by what they are called in it.
var machineFacts = []struct{ key, name string }{
	{"date", "day"},
	{"commit", "commit"},
	{"cpu-model", "processor"},
	{"cores", "cores"},
	{"kernel", "kernel"},
	{"go", "Go"},
	{"postgres", "Postgres"},
	{"load", "load average at the start"},
	{"rounds", "rounds"},
	{"sizes", "sizes"},
}

// idleEnough is how much of the machine others may use before a part, in percent.
const idleEnough = 10

// machine is what the run stands on, as configuration lines of its file.
func machine(now time.Time) map[string]string {
	out := map[string]string{
		"date":  now.UTC().Format(time.DateOnly),
		"cores": strconv.Itoa(runtime.NumCPU()),
		"go":    strings.TrimPrefix(runtime.Version(), "go"),
		// Elsewhere than on Linux the kernel isn't told.
		"kernel":    firstLine("/proc/sys/kernel/osrelease"),
		"cpu-model": cpuModel(),
	}
	load := strings.Fields(firstLine("/proc/loadavg"))
	if len(load) > 3 {
		out["load"] = strings.Join(load[:3], ", ")
	}
	return out
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	_, model, _ := strings.Cut(line, ":")
	return strings.TrimSpace(model)
}

// busy is how much of the machine is used for so long, in percent; -1 where that isn't told.
func busy(long time.Duration) float64 {
	idle, all := processorTimes()
	time.Sleep(long)
	idleAfter, allAfter := processorTimes()
	if allAfter == all {
		return -1
	}
	return 100 * (1 - (idleAfter-idle)/(allAfter-all))
}

// processorTimes are ticks of all cores: idle, and in all. What a hypervisor gave to others is not idle.
func processorTimes() (idle, all float64) {
	for i, field := range strings.Fields(firstLine("/proc/stat")) {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 8 {
			continue // The name, and guests, which are counted in their host's time.
		}
		all += ticks
		if i == 4 || i == 5 {
			idle += ticks
		}
	}
	return idle, all
}
