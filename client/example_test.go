package client_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/client/aesgcm"
)

func Example() {
	backend, _, stop := start() // client.New(client.Config{URL: "http://localhost:8080", Retry: client.DefaultRetry})
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	accepted, err := backend.Append(ctx, "guestbook", client.Message{Body: []byte("hello"), ContentType: "text/plain"}, 0)
	if err != nil {
		if client.NothingDone(err) {
			log.Print("it is certainly not in the log")
		}
		log.Fatal(err)
	}
	fmt.Println(accepted.State) // on the durable queue: keep accepted.Receipt to ask later

	status, err := backend.Wait(ctx, accepted.Receipt)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.State)
	// Output:
	// accepted
	// persisted
}

// A write that one backend has accepted can be read from another one, whose replica may be behind.
func ExampleClient_Messages_readYourWrites() {
	here, there, stop := start()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	first, err := here.Append(ctx, "guestbook", client.Message{Body: []byte("first")}, 0)
	if err != nil {
		log.Fatal(err)
	}
	second, err := here.Append(ctx, "guestbook", client.Message{Body: []byte("second")}, 0)
	if err != nil {
		log.Fatal(err)
	}
	page, err := there.Messages(ctx, "guestbook", client.ReadOptions{
		Receipts: client.Merge(first.Receipt, second.Receipt), Wait: 30 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range page.Messages {
		fmt.Printf("%d %s\n", m.Position, m.Body)
	}
	// Output:
	// 1 first
	// 2 second
}

func ExampleClient_Tail() {
	backend, _, stop := start()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	messages := []client.Message{{Body: []byte("one")}, {Body: []byte("two")}, {Body: []byte("three")}}
	if _, err := backend.AppendMany(ctx, "guestbook", messages, 0); err != nil {
		log.Fatal(err)
	}
	for m, err := range backend.Tail(ctx, "guestbook", 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %s\n", m.Position, m.Body)
		if m.Position == 3 {
			break // or go on for as long as ctx lasts
		}
	}
	// Output:
	// 1 one
	// 2 two
	// 3 three
}

func ExampleClient_WaitBarrier() {
	backend, there, stop := start()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	for _, name := range []string{"guestbook", "visits"} {
		if _, err := backend.Append(ctx, name, client.Message{Body: []byte("hello")}, 0); err != nil {
			log.Fatal(err)
		}
	}
	status, err := there.WaitBarrier(ctx) // it is about everything accepted before, whoever asks
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.State)
	for info, err := range there.Logs(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.Name, info.Count)
	}
	// Output:
	// reached
	// guestbook 1
	// visits 1
}

// Bodies are encrypted before they are sent. Whoever reads them without the key gets them as they are stored.
func ExampleCodec() {
	d, err := startDeployment()
	if err != nil {
		log.Fatal(err)
	}
	defer d.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	os.Setenv("ORDERS_KEY", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32)))) // yours has 32 random bytes
	if err := placeOrder(ctx, d.urls[0]); err != nil {
		log.Fatal(err)
	}
	if err := readOrders(ctx, d.urls[1]); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1 a book, to Ada
}

// ordersClient makes a client that encrypts.
func ordersClient(url string) (*client.Client, error) {
	secret, err := base64.StdEncoding.DecodeString(os.Getenv("ORDERS_KEY"))
	if err != nil {
		return nil, err
	}
	codec, err := aesgcm.New(aesgcm.Key{ID: "2027-01", Secret: secret}) // older keys are further parameters
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{URL: url, Retry: client.DefaultRetry, Codec: codec})
}

func placeOrder(ctx context.Context, url string) error {
	c, err := ordersClient(url)
	if err != nil {
		return err
	}
	defer c.Close()
	order := client.Message{Body: []byte("a book, to Ada"), ContentType: "text/plain", Key: "order-17"}
	if _, err := c.Append(ctx, "orders", order, 0); err != nil {
		return err
	}
	_, err = c.WaitBarrier(ctx)
	return err
}

func readOrders(ctx context.Context, url string) error {
	c, err := ordersClient(url)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WaitBarrier(ctx); err != nil {
		return err
	}
	for m, err := range c.All(ctx, "orders", client.ReadOptions{}) {
		var undecodable *client.DecodeError
		if errors.As(err, &undecodable) {
			log.Print(undecodable) // it is this message's alone
			continue
		}
		if err != nil {
			return err
		}
		fmt.Printf("%d %s\n", m.Position, m.Body)
	}
	return nil
}
