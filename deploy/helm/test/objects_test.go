package chart_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// scaledObject is what the chart uses of KEDA's ScaledObject, by its documentation: its Go types bring all of KEDA.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef  struct{ Name string }
		MinReplicaCount *int32
		MaxReplicaCount *int32
		PollingInterval *int32
		CooldownPeriod  *int32
		Fallback        *struct{ FailureThreshold, Replicas int32 }
		Advanced        map[string]any
		Triggers        []struct {
			Type, MetricType  string
			Metadata          map[string]string
			AuthenticationRef *struct{ Name string }
		}
	}
}

// triggerAuthentication is what the chart uses of KEDA's TriggerAuthentication.
type triggerAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		SecretTargetRef []struct{ Parameter, Name, Key string }
	}
}

// kinds are the types of all objects that the chart makes.
var kinds = map[string]func() any{
	"v1/ConfigMap":                            func() any { return &corev1.ConfigMap{} },
	"v1/Pod":                                  func() any { return &corev1.Pod{} },
	"v1/Secret":                               func() any { return &corev1.Secret{} },
	"v1/Service":                              func() any { return &corev1.Service{} },
	"v1/ServiceAccount":                       func() any { return &corev1.ServiceAccount{} },
	"apps/v1/Deployment":                      func() any { return &appsv1.Deployment{} },
	"apps/v1/StatefulSet":                     func() any { return &appsv1.StatefulSet{} },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"batch/v1/Job":                            func() any { return &batchv1.Job{} },
	"networking.k8s.io/v1/Ingress":            func() any { return &networkingv1.Ingress{} },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return &networkingv1.NetworkPolicy{} },
	"policy/v1/PodDisruptionBudget":           func() any { return &policyv1.PodDisruptionBudget{} },
	"gateway.networking.k8s.io/v1/HTTPRoute":  func() any { return &gatewayv1.HTTPRoute{} },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
	"keda.sh/v1alpha1/ScaledObject":           func() any { return &scaledObject{} },
	"keda.sh/v1alpha1/TriggerAuthentication":  func() any { return &triggerAuthentication{} },
}

// decode returns an object as its type has it. A field that the type does not know is an error.
func decode(o *unstructured.Unstructured) (any, error) {
	kind, ok := kinds[o.GetAPIVersion()+"/"+o.GetKind()]
	if !ok {
		return nil, fmt.Errorf("the kind %s of %s is not known", o.GetKind(), o.GetAPIVersion())
	}
	text, err := json.Marshal(o.Object)
	if err != nil {
		return nil, err
	}
	typed := kind()
	return typed, yaml.UnmarshalStrict(text, typed)
}

// pod is a pod, or what makes some.
type pod struct {
	of   string
	meta metav1.ObjectMeta
	spec corev1.PodSpec
}

// podsOf returns the pod of an object, if it has one.
func podsOf(typed any) []pod {
	switch o := typed.(type) {
	case *corev1.Pod:
		return []pod{{"Pod " + o.Name, o.ObjectMeta, o.Spec}}
	case *appsv1.Deployment:
		return []pod{{"Deployment " + o.Name, o.Spec.Template.ObjectMeta, o.Spec.Template.Spec}}
	case *appsv1.StatefulSet:
		return []pod{{"StatefulSet " + o.Name, o.Spec.Template.ObjectMeta, o.Spec.Template.Spec}}
	case *batchv1.Job:
		return []pod{{"Job " + o.Name, o.Spec.Template.ObjectMeta, o.Spec.Template.Spec}}
	}
	return nil
}

// Each object of each combination of switches is one that Kubernetes takes, with standard labels, and each pod is
// admitted where PodSecurity is restricted.
func TestEveryCombination(t *testing.T) {
	t.Parallel()
	all := combinations(t)
	for name, values := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkRelease(t, release{values: values})
		})
	}
}

func checkRelease(t *testing.T, r release) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range r.objects(t) {
		if seen[title(o)] {
			t.Errorf("%s is there twice", title(o))
		}
		seen[title(o)] = true
		typed, err := decode(o)
		if err != nil {
			t.Errorf("%s: %v", title(o), err)
			continue
		}
		if wrong := validation.IsDNS1035Label(o.GetName()); o.GetKind() == "Service" && wrong != nil {
			t.Errorf("%s: %v", title(o), wrong)
		}
		if size := len(o.GetName() + "-0123456789"); o.GetKind() == "StatefulSet" && size > validation.LabelValueMaxLength {
			t.Errorf("%s: its pods get a label of %d characters", title(o), size)
		}
		if wrong := validation.IsDNS1123Label(o.GetName()); wrong != nil {
			t.Errorf("%s: %v", title(o), wrong)
		}
		if o.GetName() != "text" && o.GetName() != "guestbook-more" { // extraManifests
			checkLabels(t, title(o), o.GetLabels(), true)
		}
		for _, p := range podsOf(typed) {
			checkLabels(t, "a pod of "+title(o), p.meta.Labels, o.GetKind() == "Pod")
			checkRestricted(t, p)
			checkContainers(t, p)
		}
	}
}

// Releases may be called almost anything, and so may images and Secrets. YAML would take some of that for numbers, dates
// and truths, and Services and labels allow less.
func TestOddNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"1", "1.2", "1e3", "0x1f", "true", "null", "y", "a.b", "2026-11-27", "guestbook-of-the-online-sh",
		"guestbook-of-the-online-shop-in-production-of-europe",
	} {
		values := merged(t, everythingOn, "trial: {rabbitmq: {image: 'rabbitmq:3.10_'}}\ndashboard: {labels: {a: b}}",
			"serviceAccount: {create: false, name: '"+name+"'}\npriorityClassName: '1'\ningress: {className: '1'}",
			"image: {tag: '_"+strings.Repeat("a", 61)+"._.b'}")
		t.Run(name, func(t *testing.T) { t.Parallel(); checkRelease(t, release{name: name, values: values}) })
		of := everybody + "broker: {secretName: '" + name + "', secretKey: '1'}\nstore: {secretName: '" + name + "', replica: {secretName: '1', secretKey: 'y'}}"
		t.Run("Secret "+name, func(t *testing.T) { t.Parallel(); checkRelease(t, release{values: of}) })
	}
}

func checkLabels(t *testing.T, what string, labels map[string]string, chart bool) {
	t.Helper()
	for _, name := range []string{"name", "instance", "component", "version", "managed-by", "part-of"} {
		if labels["app.kubernetes.io/"+name] == "" {
			t.Errorf("%s has no label %s", what, name)
		}
	}
	if has := labels["helm.sh/chart"] != ""; has != chart {
		t.Errorf("%s: the chart's version is among the labels: %v; should be %v: each new one replaces pods", what, has, chart)
	}
	for name, value := range labels {
		if wrong := validation.IsValidLabelValue(value); wrong != nil {
			t.Errorf("%s: label %s: %v", what, name, wrong)
		}
	}
}

func checkRestricted(t *testing.T, p pod) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(restricted, &p.meta, &p.spec) {
		if !result.Allowed {
			t.Errorf("%s: PodSecurity restricted: %s: %s", p.of, result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
}

// checkContainers checks what PodSecurity leaves open.
func checkContainers(t *testing.T, p pod) {
	t.Helper()
	if p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
		t.Errorf("%s: its pods have a token", p.of)
	}
	if p.spec.EnableServiceLinks == nil || *p.spec.EnableServiceLinks {
		t.Errorf("%s: its pods have the variables of Services", p.of)
	}
	for _, c := range p.spec.Containers {
		if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("%s: the root file system of %s can be written", p.of, c.Name)
		}
		for _, arg := range append(c.Command, c.Args...) {
			if strings.Contains(arg, "://") && strings.Contains(arg, "@") {
				t.Errorf("%s: an argument of %s has a URL with a password: %s", p.of, c.Name, arg)
			}
		}
		names := map[string]bool{}
		for _, e := range c.Env {
			if names[e.Name] {
				t.Errorf("%s: %s has the variable %s twice", p.of, c.Name, e.Name)
			}
			names[e.Name] = true
			if e.Value != "" && (e.Name == "DRAINMARK_BROKER" || e.Name == "DRAINMARK_STORE" || e.Name == "DRAINMARK_REPLICA") {
				t.Errorf("%s: %s is in the values of %s", p.of, e.Name, c.Name)
			}
		}
	}
}
