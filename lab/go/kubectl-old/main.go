// Kubectl of another version than the lab's own, for tests of what clients of
// that version do. As k8s.io/kubernetes/cmd/kubectl has it: CheckErr picks the
// message and the exit code.
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
