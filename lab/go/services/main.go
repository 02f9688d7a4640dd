// Services is what the suite of that name runs: a Service's side (a web site
// with a WebSocket, files of any size, gRPC), and clients of gRPC and of
// Kubernetes.
package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

const usage = `usage: services serve FOLDER CERTIFICATE KEY
       services grpc SERVER-URL CA TARGET-PREFIX TOKEN-FILE
       services client-go KUBECONFIG CONTEXT NAMESPACE POD`

// A client that is not done by then has failed.
const limit = 60 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	switch {
	case len(os.Args) == 5 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 6 && os.Args[1] == "grpc":
		err = callGRPC(ctx, os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	case len(os.Args) == 6 && os.Args[1] == "client-go":
		err = useClientGo(ctx, os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(64)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
