// Command composecheck reads a compose file as `docker compose config` does, and
// checks what the specification leaves open: that what waits for a healthy service
// waits for one that has a health check, that what is mounted is there, and that each
// password is one that is demanded from outside.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: composecheck FILE")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "composecheck:", err)
		os.Exit(1)
	}
}

func check(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	demanded := demands(string(text))
	project, err := load(file, demanded)
	if err != nil {
		return err
	}
	failed := checkDemands(file, demanded)
	for name, service := range project.Services {
		if service.Image == "" {
			failed = append(failed, fmt.Errorf("service %s has no image", name))
		}
		failed = append(failed, checkEnvironment(name, service.Environment, demanded)...)
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				failed = append(failed, fmt.Errorf("service %s mounts what isn't there: %w", name, err))
			}
		}
		for on, dependency := range service.DependsOn {
			other := project.Services[on]
			if dependency.Condition == types.ServiceConditionHealthy && other.HealthCheck == nil {
				failed = append(failed, fmt.Errorf("service %s waits for %s to be healthy, which has no health check", name, on))
			}
			if dependency.Condition == types.ServiceConditionCompletedSuccessfully && other.Restart == types.RestartPolicyAlways {
				failed = append(failed, fmt.Errorf("service %s waits for the end of %s, which is always restarted", name, on))
			}
		}
	}
	fmt.Printf("%s: %d services, %d volumes\n", file, len(project.Services), len(project.Volumes))
	return errors.Join(failed...)
}

// load reads the file with these variables, and with none of the process's or of an .env file.
func load(file string, variables map[string]string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, err
	}
	options.Environment = maps.Clone(variables)
	// It applies the schema, merges, interpolates, and checks references between services.
	return options.LoadProject(context.Background())
}
