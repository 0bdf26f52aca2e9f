// Package version says which program this is.
package version

import "runtime/debug"

// version is set by the linker for releases.
var version string

// String returns the version that the linker set; else the module's version or the
// commit that Go recorded; else "dev".
func String() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return setting.Value[:12]
		}
	}
	return "dev"
}
