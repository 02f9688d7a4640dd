// Ocm is every program of Open Cluster Management in one binary:
// registration-operator, registration, placement, work and addon.
//
// One binary instead of five because they share nearly all of their code: it
// is linked once, and their images share one layer. The program is picked by
// the name it was called by, which in the upstream images is /registration,
// /placement and so on.
package main

import (
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/component-base/cli/flag"
	"k8s.io/component-base/featuregate"
	"k8s.io/component-base/logs"
	"open-cluster-management.io/api/feature"
	"open-cluster-management.io/ocm/pkg/cmd/hub"
	"open-cluster-management.io/ocm/pkg/cmd/spoke"
	"open-cluster-management.io/ocm/pkg/cmd/webhook"
	"open-cluster-management.io/ocm/pkg/features"
	"open-cluster-management.io/ocm/pkg/version"
)

type program struct {
	// The feature gates that it takes as flags beside its commands' own.
	gates    map[featuregate.Feature]featuregate.FeatureSpec
	commands []func() *cobra.Command
}

var programs = map[string]program{
	"addon":     {commands: []func() *cobra.Command{hub.NewAddonManager}},
	"placement": {commands: []func() *cobra.Command{hub.NewPlacementController}},
	"registration": {
		gates:    feature.DefaultHubRegistrationFeatureGates,
		commands: []func() *cobra.Command{hub.NewRegistrationController, spoke.NewRegistrationAgent, webhook.NewRegistrationWebhook},
	},
	"registration-operator": {
		commands: []func() *cobra.Command{hub.NewHubOperatorCmd, spoke.NewKlusterletOperatorCmd, spoke.NewKlusterletAgentCmd},
	},
	"work": {
		gates:    feature.DefaultHubWorkFeatureGates,
		commands: []func() *cobra.Command{hub.NewWorkController, spoke.NewWorkAgent, webhook.NewWorkWebhook},
	},
}

func main() {
	name := filepath.Base(os.Args[0])
	chosen, found := programs[name]
	if !found {
		names := make([]string, 0, len(programs))
		for known := range programs {
			names = append(names, known)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "ocm: call it by the name of a program: %s\n", strings.Join(names, " "))
		os.Exit(64)
	}
	os.Exit(run(name, chosen))
}

func run(name string, chosen program) int {
	pflag.CommandLine.SetNormalizeFunc(flag.WordSepNormalizeFunc)
	pflag.CommandLine.AddGoFlagSet(goflag.CommandLine)
	logs.AddFlags(pflag.CommandLine)
	logs.InitLogs()
	defer logs.FlushLogs()
	if chosen.gates != nil {
		runtime.Must(features.HubMutableFeatureGate.Add(chosen.gates))
		features.HubMutableFeatureGate.AddFlag(pflag.CommandLine)
	}

	root := &cobra.Command{Use: name, Version: version.Get().String()}
	for _, newCommand := range chosen.commands {
		root.AddCommand(newCommand())
	}
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
