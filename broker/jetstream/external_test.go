package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

func TestAStreamWithOtherSettingsIsRefusedAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	admin := e.open(t)
	for prefix, test := range map[string]struct {
		change func(*natsjs.StreamConfig)
		says   string
	}{
		"memory":      {func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, "storage must be file"},
		"workqueue":   {func(c *natsjs.StreamConfig) { c.Retention = natsjs.WorkQueuePolicy }, "retention must be limits"},
		"discard-old": {func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardOld }, "discard policy must be new"},
		"subjects":    {func(c *natsjs.StreamConfig) { c.Subjects = []string{"other.>"} }, "subject must be subjects.p0.*"},
		"age":         {func(c *natsjs.StreamConfig) { c.MaxAge = time.Hour }, "no maximum age"},
		"messages":    {func(c *natsjs.StreamConfig) { c.MaxMsgs = 10 }, "no maximum number of messages"},
		"per-subject": {func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 10 }, "messages per subject"},
		"size":        {func(c *natsjs.StreamConfig) { c.MaxMsgSize = 1000 }, "maximum message size must be at least"},
		"no-ack":      {func(c *natsjs.StreamConfig) { c.NoAck = true }, "acknowledgements must not be disabled"},
		"deny-purge":  {func(c *natsjs.StreamConfig) { c.DenyPurge = true }, "purging must be allowed"},
		"sources": {func(c *natsjs.StreamConfig) {
			c.Sources = []*natsjs.StreamSource{{Name: "elsewhere"}}
		}, "must not mirror, source"},
	} {
		t.Run(prefix, func(t *testing.T) {
			c := natsjs.StreamConfig{
				Name: prefix + "-p0", Subjects: []string{prefix + ".p0.*"}, Discard: natsjs.DiscardNew, MaxBytes: 1 << 20,
			}
			test.change(&c)
			if _, err := admin.conn.js.CreateStream(bounded(t), c); err != nil {
				t.Fatal(err)
			}
			config := Config{Options: Options{Partitions: 1, Prefix: prefix, MaxBytes: 64 << 20, Timeout: answerTime}, URL: e.url}
			if err := refusalOf(t, config); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Open: %v", err)
			}
			if err := admin.conn.js.DeleteStream(bounded(t), c.Name); err != nil {
				t.Fatal(err)
			}
			b, err := Open(bounded(t), config) // the fault has been put right
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			connected(t, b)
			publish(t, b, 1, 1, 1, 10)
		})
	}
}

func TestAStreamThatFitsIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	stream, err := e.open(t).conn.js.CreateStream(bounded(t), natsjs.StreamConfig{
		Name: "own-p0", Subjects: []string{"own.p0.*"}, Discard: natsjs.DiscardNew, MaxBytes: 1 << 20,
		Compression: natsjs.S2Compression,
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(bounded(t), Config{Options: Options{Partitions: 1, Prefix: "own", Timeout: answerTime}, URL: e.url})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	connected(t, b)
	publish(t, b, 1, 1, 3, 10)
	expect(t, open(t, b, ""), 1, 2, 3)
	if info, err := stream.Info(bounded(t)); err != nil || info.Config.MaxBytes != 1<<20 {
		t.Errorf("the stream has been changed: %+v, %v", info, err)
	}
}

func TestFewerReplicasThanDemandedAreRefused(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	publish(t, e.open(t), 1, 1, 1, 10)
	err := refusalOf(t, Config{Options: Options{Partitions: 1}, URL: e.url + "?replicas=3"})
	if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "at least 3 replicas") {
		t.Errorf("Open: %v", err)
	}
}

func TestMoreBytesThanNATSMayStoreAreRefusedWithTheSum(t *testing.T) {
	t.Parallel()
	// There is room for three of the four streams.
	e := startNATS(t, natsSettings{MaxStore: 3 << 30}, Options{})
	err := refusalOf(t, Config{Options: Options{Partitions: 4, MaxBytes: 4 << 30}, URL: e.url})
	if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), fmt.Sprint(4<<30+registryBytes)) {
		t.Errorf("Open: %v", err)
	}
}

func TestAStreamThatIsChangedWhileInUseIsNotReady(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	b := e.open(t)
	if err := b.Ping(bounded(t)); err != nil {
		t.Fatal(err)
	}
	config := b.partitions[1].config
	config.MaxMsgs = 10
	if _, err := b.conn.js.UpdateStream(bounded(t), config); err != nil {
		t.Fatal(err)
	}
	if err := b.Ping(bounded(t)); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "drainmark-p1") {
		t.Errorf("Ping: %v", err)
	}
}

func TestAMissingPermissionIsNamed(t *testing.T) {
	t.Parallel()
	e := startNATS(t, natsSettings{User: "someone", Password: "s3cret", Deny: "$JS.API.STREAM.INFO.drainmark-p1"}, Options{})
	url := strings.Replace(e.url, "nats://", "nats://someone:s3cret@", 1)
	err := refusalOf(t, Config{Options: Options{Partitions: 2}, URL: url})
	if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(strings.ToLower(err.Error()), "stream.info.drainmark-p1") {
		t.Errorf("Open without a permission: %v", err)
	}
	e = startNATS(t, natsSettings{User: "someone", Password: "s3cret", Deny: "drainmark.p1.>"}, Options{})
	url = strings.Replace(e.url, "nats://", "nats://someone:s3cret@", 1)
	b, err := Open(bounded(t), Config{Options: Options{Partitions: 2, Timeout: answerTime}, URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	connected(t, b)
	batch := single(1, 1, 10)
	batch.Partition = 1
	if err := b.Publish(bounded(t), 1, batch); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "drainmark.p1.") {
		t.Errorf("Publish without the permission: %v", err)
	}
	publish(t, b, 1, 1, 1, 10)
}

func TestAWrongPasswordIsNotShownAndCanBePutRight(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	e := startNATS(t, natsSettings{User: "someone", Password: "s3cret"}, Options{Partitions: 1})
	wrong := Config{
		Options: Options{Partitions: 1, Logger: logger},
		URL:     strings.Replace(e.url, "nats://", "nats://someone:wr0ng@", 1),
	}
	if err := refusalOf(t, wrong); !errors.Is(err, broker.ErrMisconfigured) || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("Open with a wrong password: %v", err)
	}
	e.kill(t)
	b, err := Open(bounded(t), wrong) // it does not answer, so the password may be right
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	e.start(t)
	eventually(t, func() string {
		if err := b.Ping(bounded(t)); !errors.Is(err, broker.ErrMisconfigured) {
			return fmt.Sprint(err)
		}
		return ""
	})
	_, openError := b.Open(bounded(t), 0, "", false)
	_, backlogError := b.Backlog(bounded(t), 0, persisted("", nil))
	for what, err := range map[string]error{
		"Publish": b.Publish(bounded(t), 0, single(1, 1, 10)), "Ping": b.Ping(bounded(t)), "Open": openError, "Backlog": backlogError,
	} {
		if !errors.Is(err, broker.ErrMisconfigured) || !errors.Is(err, broker.ErrNotSent) {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), "nats://") {
			t.Errorf("%s shows the URL: %v", what, err)
		}
	}
	e.kill(t)
	e.settings.Password = "wr0ng"
	e.start(t)
	eventually(t, func() string {
		if err := b.Ping(bounded(t)); err != nil {
			return err.Error()
		}
		return ""
	})
	if strings.Contains(logged(), "wr0ng") {
		t.Errorf("the log shows the password:\n%s", logged())
	}
}

func TestNATSNeedNotBeThereYet(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	e.kill(t)
	b := e.open(t)
	if err := b.Publish(bounded(t), 0, single(1, 1, 10)); !errors.Is(err, broker.ErrNotSent) {
		t.Fatalf("Publish while NATS is down: %v", err)
	}
	if b.Traits().MaxPayload != defaultMaxPayload {
		t.Errorf("MaxPayload is %d", b.Traits().MaxPayload)
	}
	e.start(t)
	eventually(t, func() string {
		if err := b.Publish(bounded(t), 0, single(1, 1, 10)); err != nil {
			return err.Error()
		}
		return ""
	})
	expect(t, open(t, b, ""), 1)
}

func TestTheServersLimitIsTheTrait(t *testing.T) {
	t.Parallel()
	e := startNATS(t, natsSettings{MaxPayload: 3 << 20}, Options{Partitions: 1})
	b := e.open(t)
	if got := b.Traits().MaxPayload; got != 3<<20-headerRoom {
		t.Errorf("MaxPayload is %d", got)
	}
	e.kill(t)
	e.settings.MaxPayload = 1 << 20
	e.start(t)
	eventually(t, func() string {
		if err := b.Ping(bounded(t)); err != nil {
			return err.Error()
		}
		return ""
	})
	err := b.Publish(bounded(t), 0, single(1, 1, 2<<20))
	if !errors.Is(err, broker.ErrMisconfigured) || !errors.Is(err, broker.ErrNotSent) || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("publishing more than NATS takes by now: %v", err)
	}
}

func TestAMaximumMessageSizeThatIsSetLaterIsNamed(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	b := e.open(t)
	publish(t, b, 1, 1, 1, 10)
	p := b.partitions[0]
	c := p.config
	c.MaxMsgSize = 1000
	if _, err := b.conn.js.UpdateStream(bounded(t), c); err != nil {
		t.Fatal(err)
	}
	for range 2 { // by the stream, and then by its settings
		err := b.Publish(bounded(t), 0, single(1, 2, 2000))
		if !errors.Is(err, broker.ErrMisconfigured) || !errors.Is(err, broker.ErrNotSent) || !strings.Contains(err.Error(), "maximum message size") {
			t.Errorf("Publish: %v", err)
		}
	}
}

func TestTLSWithAClientCertificate(t *testing.T) {
	t.Parallel()
	authority := servers.NewAuthority(t)
	settings := secured(authority)
	settings.CAs = authority.Path
	e := startNATS(t, settings, Options{Partitions: 1})
	certificate, key := authority.Issue("client")
	b, err := Open(bounded(t), Config{Options: e.options, URL: strings.Replace(e.url, "nats://", "tls://", 1) +
		"?ca=" + authority.Path + "&cert=" + certificate + "&key=" + key})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	connected(t, b)
	publish(t, b, 1, 1, 1, 10)
}
