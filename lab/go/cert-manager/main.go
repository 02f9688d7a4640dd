// Cert-manager is its three programs in one binary: controller, webhook and
// cainjector. The program is picked by the name it was called by.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	cainjector "github.com/cert-manager/cert-manager/cmd/cainjector/app"
	controller "github.com/cert-manager/cert-manager/cmd/controller/app"
	"github.com/cert-manager/cert-manager/cmd/util"
	webhook "github.com/cert-manager/cert-manager/cmd/webhook/app"
	"github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	stop, exit := util.SetupExitHandler(util.GracefulShutdown)
	defer exit() // Ends the process with the code that SetExitCode noted.

	logs.InitLogs(flag.CommandLine)
	defer logs.FlushLogs()

	var command *cobra.Command
	switch name := filepath.Base(os.Args[0]); name {
	case "controller":
		command = controller.NewCommandStartCertManagerController(stop)
	case "webhook":
		command = webhook.NewServerCommand(stop)
	case "cainjector":
		ctrl.SetLogger(logs.Log)
		ctx := util.ContextWithStopCh(context.Background(), stop)
		command = cainjector.NewCommandStartInjectorController(ctx, os.Stdout, os.Stderr)
	default:
		fmt.Fprintf(os.Stderr, "cert-manager: call it by the name of a program: cainjector controller webhook, not %s\n", name)
		os.Exit(64)
	}
	command.Flags().AddGoFlagSet(flag.CommandLine)
	// glog's flags complain of not having been parsed otherwise.
	_ = flag.CommandLine.Parse(nil)
	if err := command.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		util.SetExitCode(err)
	}
}
