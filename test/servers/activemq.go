package servers

import (
	"context"
	"fmt"
	"path/filepath"
)

// activeMQVersion is the one that scripts/activemq/pom.xml has fetched.
const activeMQVersion = "6.3.1"

// ActiveMQ is one server of Apache ActiveMQ Classic, which speaks AMQP 1.0, and makes queues on demand. It lets everybody in,
// or those of deploy/permissions.
type ActiveMQ struct {
	*Process
	Port    int
	secured bool
}

// ActiveMQOptions are for tests that need something special.
type ActiveMQOptions struct {
	// Store is how many bytes it may store, 0 for what it takes by itself. Above that it refuses messages.
	Store int
	// Security are authorizationEntry elements. With them, BackendUser and ConsumerUser may log in, and nobody else.
	Security string
	// Dir is of its files, empty for one that ends with the test.
	Dir string
}

// StartActiveMQ starts a server that ends with the test.
func StartActiveMQ(t T, o ActiveMQOptions) *ActiveMQ {
	t.Helper()
	a := &ActiveMQ{Process: newProcess(t, "activemq", program(t, "java", "openjdk-17-jre-headless")), Port: Port(t)}
	a.dir, a.secured = directory(t, o.Dir), o.Security != ""
	store, plugins := "", ""
	if o.Store > 0 {
		store = fmt.Sprintf(`<storeUsage><storeUsage limit="%d"/></storeUsage>`, o.Store)
	}
	if a.secured {
		plugins = fmt.Sprintf(activeMQPlugins, BackendUser, ConsumerUser, RolePassword, o.Security)
	}
	settings := filepath.Join(a.dir, "activemq.xml")
	write(t, settings, fmt.Sprintf(activeMQSettings, filepath.Join(a.dir, "data"), filepath.Join(a.dir, "data", "kahadb"), plugins, store, Host, a.Port))
	a.args = append(javaOptions(jarsIn(t, "activemq-"+activeMQVersion, "activemq-jaas-"+activeMQVersion+".jar")), "org.apache.activemq.console.command.ShellCommand", "start", "xbean:file:"+settings)
	a.ready = a.answers
	a.Start()
	return a
}

const activeMQSettings = `<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
<broker xmlns="http://activemq.apache.org/schema/core" brokerName="drainmark" dataDirectory="%s" useJmx="false" useShutdownHook="true"
 schedulerSupport="false">
<persistenceAdapter><kahaDB directory="%s" journalMaxFileLength="1mb" checkForCorruptJournalFiles="true" preallocationScope="none"/></persistenceAdapter>
%s
<systemUsage><systemUsage sendFailIfNoSpace="true"><memoryUsage><memoryUsage limit="64mb"/></memoryUsage>%s</systemUsage></systemUsage>
<destinationPolicy><policyMap><policyEntries><policyEntry queue=">" useConsumerPriority="false"/></policyEntries></policyMap></destinationPolicy>
<transportConnectors><transportConnector name="amqp" uri="amqp://%s:%d"/></transportConnectors>
</broker></beans>
`

const activeMQPlugins = `<plugins><simpleAuthenticationPlugin><users>
<authenticationUser username="%[1]s" password="%[3]s" groups="%[1]s"/><authenticationUser username="%[2]s" password="%[3]s" groups="%[2]s"/>
</users></simpleAuthenticationPlugin><authorizationPlugin><map><authorizationMap><authorizationEntries>
%[4]s</authorizationEntries></authorizationMap></map></authorizationPlugin></plugins>`

// URL is where clients connect to.
func (a *ActiveMQ) URL() string { return fmt.Sprintf("amqp10://%s:%d", Host, a.Port) }

func (a *ActiveMQ) answers(ctx context.Context) error { return answersAMQP10(ctx, a.Port, a.secured) }
