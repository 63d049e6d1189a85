//go:build engine

package drainmark_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/testcontainers/testcontainers-go"

	"github.com/drainmark/drainmark/testcontainers/drainmark"
)

// image is made by "make image TAG=latest".
const image = "localhost/drainmark:latest"

func TestOrders(t *testing.T) {
	c, err := drainmark.Run(t.Context(), image)
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatal(err)
	}
	url, err := c.URL(t.Context()) // for client.Config, or DRAINMARK_URL
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(url+"/v1/logs/orders/messages", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		t.Errorf("an append is answered %s", answer.Status)
	}
}
