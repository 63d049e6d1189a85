package chart_test

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// secrets is a cluster that has Secrets, by name, and nothing else: for lookup.
type secrets map[string]any

func (s secrets) GetClientFor(string, string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return secretClient{kept: s}, true, nil
}

type secretClient struct {
	dynamic.NamespaceableResourceInterface // not asked for anything else
	kept                                   secrets
}

func (c secretClient) Namespace(string) dynamic.ResourceInterface { return c }

func (c secretClient) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	data, ok := c.kept[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	return &unstructured.Unstructured{Object: map[string]any{"kind": "Secret", "data": data}}, nil
}
