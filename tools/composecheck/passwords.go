package main

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

var (
	demand   = regexp.MustCompile(`\$\{([A-Za-z_0-9]+):\?`)
	password = regexp.MustCompile(`PASSWORD|_PWD$|SECRET`)
)

// demands returns the variables without which a compose file is refused, each with a value of its own.
func demands(text string) map[string]string {
	demanded := map[string]string{}
	for _, match := range demand.FindAllStringSubmatch(text, -1) {
		demanded[match[1]] = "value-of-" + match[1]
	}
	return demanded
}

// checkDemands checks that the file is refused where one of the variables is missing or empty.
func checkDemands(file string, demanded map[string]string) (failed []error) {
	for name := range demanded {
		without := maps.Clone(demanded)
		delete(without, name)
		if _, err := load(file, without); err == nil || !strings.Contains(err.Error(), name) {
			failed = append(failed, fmt.Errorf("without %s it is not refused by its name: %v", name, err))
		}
		without[name] = ""
		if _, err := load(file, without); err == nil {
			failed = append(failed, fmt.Errorf("with an empty %s it is not refused", name))
		}
	}
	return failed
}

// checkEnvironment checks that what is a password by its name, or is one in a URL, is demanded.
func checkEnvironment(service string, environment types.MappingWithEquals, demanded map[string]string) (failed []error) {
	values := slices.Collect(maps.Values(demanded))
	for name, value := range environment {
		if value == nil || *value == "" {
			continue
		}
		if password.MatchString(name) && !slices.Contains(values, *value) {
			failed = append(failed, fmt.Errorf("service %s: the password in %s is not demanded by ${…:?}", service, name))
		}
		if u, err := url.Parse(*value); err == nil && u.User != nil {
			if secret, has := u.User.Password(); has && !slices.Contains(values, secret) {
				failed = append(failed, fmt.Errorf("service %s: the password in the URL of %s is not demanded by ${…:?}", service, name))
			}
		}
	}
	return failed
}
