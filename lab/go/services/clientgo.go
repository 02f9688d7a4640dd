package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

const name = "of-client-go"

func useClientGo(ctx context.Context, kubeconfig, contextName, namespace, pod string) error {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: contextName},
	).ClientConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := list(ctx, client, namespace, pod); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if err := informer(ctx, client, namespace); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	if err := execute(ctx, config, client, namespace, pod); err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	fmt.Println("all of it works")
	return nil
}

// list looks for the pod in pages of one.
func list(ctx context.Context, client kubernetes.Interface, namespace, pod string) error {
	var names []string
	options := metav1.ListOptions{Limit: 1}
	for {
		page, err := client.CoreV1().Pods(namespace).List(ctx, options)
		if err != nil {
			return err
		}
		for _, item := range page.Items {
			names = append(names, item.Name)
		}
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	if !slices.Contains(names, pod) || len(names) < 2 {
		return fmt.Errorf("pods %v", names)
	}
	return nil
}

// informer sees a ConfigMap come, change and go.
func informer(ctx context.Context, client kubernetes.Interface, namespace string) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	configMaps := factory.Core().V1().ConfigMaps()
	events := make(chan string, 16)
	tell := func(what string, object any) {
		if configMap, ok := object.(*corev1.ConfigMap); ok && configMap.Name == name {
			events <- what + " " + configMap.Data["word"]
		}
	}
	_, err := configMaps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("added", object) },
		UpdateFunc: func(_, object any) { tell("updated", object) },
		DeleteFunc: func(object any) { tell("deleted", object) },
	})
	if err != nil {
		return err
	}
	ending, end := context.WithCancel(ctx)
	defer factory.Shutdown()
	defer end()
	factory.Start(ending.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("%v is not synced", kind)
		}
	}
	expect := func(wanted string) error {
		select {
		case event := <-events:
			if event != wanted {
				return fmt.Errorf("%q instead of %q", event, wanted)
			}
			return nil
		case <-time.After(10 * time.Second):
			return fmt.Errorf("no %q", wanted)
		}
	}

	own := client.CoreV1().ConfigMaps(namespace)
	made, err := own.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"word": "first"},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := expect("added first"); err != nil {
		return err
	}
	made.Data["word"] = "second"
	if _, err := own.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if err := expect("updated second"); err != nil {
		return err
	}
	// With the version of before: somebody else was quicker.
	if _, err := own.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("an update of an old version: %v", err)
	}
	known, err := configMaps.Lister().ConfigMaps(namespace).Get(name)
	if err != nil || known.Data["word"] != "second" {
		return fmt.Errorf("the informer knows %v: %w", known, err)
	}
	if err := own.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := expect("deleted second"); err != nil {
		return err
	}
	if _, err := own.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("what was deleted: %v", err)
	}
	return nil
}

// execute runs a command over WebSocket, with standard input and an exit code.
func execute(ctx context.Context, config *rest.Config, client kubernetes.Interface, namespace, pod string) error {
	request := client.CoreV1().RESTClient().Get().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Command: []string{"sh", "-c", "cat; echo error >&2; exit 3"},
			Stdin:   true, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	input := strings.Repeat("0123456789abcdef", 65536)
	var output, errorOutput bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{
		Stdin: strings.NewReader(input), Stdout: &output, Stderr: &errorOutput,
	})
	var exit exec.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		return fmt.Errorf("instead of exit code 3: %v", err)
	}
	if output.String() != input || errorOutput.String() != "error\n" {
		return fmt.Errorf("%d of %d bytes came back, and %q", output.Len(), len(input), errorOutput.String())
	}
	return nil
}
