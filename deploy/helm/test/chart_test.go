// Package chart_test checks the Helm chart without a cluster.
package chart_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// chartDir is the chart that is tested.
const chartDir = "../drainmark"

// external are values of a release whose broker and store are somebody else's.
const external = everybody + "broker: {secretName: urls}\nstore: {secretName: urls}\n"

// trial are values of a release that brings its own servers.
const trial = everybody + "trial: {rabbitmq: {enabled: true}, redis: {enabled: true}}\n"

// inOne are values of a release with everything in one process.
const inOne = everybody + "mode: up\n"

// everybody lets everybody do everything.
const everybody = "access: {insecure: true}\n"

// load loads the chart, which nobody changes.
var load = sync.OnceValues(func() (*chart.Chart, error) { return loader.Load(chartDir) })

// release is one installation.
type release struct {
	name, namespace string
	revision        int
	values          string         // YAML; later ones win
	kept            map[string]any // Secrets that are in the cluster, by name
}

// render renders a release as Helm does, and returns the text of each file.
func (r release) render(t *testing.T) (map[string]string, error) {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal([]byte(r.values), &v); err != nil {
		t.Fatalf("%v in\n%s", err, r.values)
	}
	options := common.ReleaseOptions{
		Name: r.name, Namespace: r.namespace, Revision: max(r.revision, 1), IsInstall: r.revision <= 1, IsUpgrade: r.revision > 1,
	}
	if options.Name == "" {
		options.Name = "guestbook"
	}
	if options.Namespace == "" {
		options.Namespace = "shop"
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	values, err := util.ToRenderValues(c, v, options, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.RenderWithClientProvider(c, values, secrets(r.kept))
}

// objects are the objects of a release, sorted by file. It fails if there is one without a kind.
func (r release) objects(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	files, err := r.render(t)
	if err != nil {
		t.Fatalf("%v with\n%s", err, r.values)
	}
	var all []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		for _, text := range strings.Split("\n"+files[name], "\n---") {
			var o map[string]any
			if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, text)
			}
			if o == nil {
				continue
			}
			object := &unstructured.Unstructured{Object: o}
			if object.GetKind() == "" || object.GetName() == "" {
				t.Fatalf("%s: an object without a kind or a name:\n%s", name, text)
			}
			all = append(all, object)
		}
	}
	return all
}

// title names an object in messages.
func title(o *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s", o.GetKind(), o.GetName())
}
