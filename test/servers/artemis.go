package servers

import (
	"context"
	"fmt"
	"path/filepath"

	amqp "github.com/Azure/go-amqp"
)

// artemisVersion is the one that scripts/artemis/pom.xml has fetched.
const artemisVersion = "2.50.0"

// Artemis is one server of Apache Artemis, which speaks AMQP 1.0, and makes queues on demand. It lets everybody in, or those
// of deploy/permissions.
type Artemis struct {
	*Process
	Port    int
	secured bool
}

// ArtemisOptions are for tests that need something special.
type ArtemisOptions struct {
	// Addresses are further address-setting elements of broker.xml.
	Addresses string
	// Security are security-setting elements of broker.xml. With them, BackendUser and ConsumerUser may log in, and nobody else.
	Security string
	// Dir is of its files, empty for one that ends with the test.
	Dir string
}

// StartArtemis starts a server that ends with the test.
func StartArtemis(t T, o ArtemisOptions) *Artemis {
	t.Helper()
	a := &Artemis{Process: newProcess(t, "artemis", program(t, "java", "openjdk-17-jre-headless")), Port: Port(t)}
	a.dir, a.secured = directory(t, o.Dir), o.Security != ""
	write(t, filepath.Join(a.dir, "etc", "broker.xml"), fmt.Sprintf(artemisSettings, a.secured, Host, a.Port, o.Security, o.Addresses))
	if a.secured {
		write(t, filepath.Join(a.dir, "login.config"), artemisLogin)
		write(t, filepath.Join(a.dir, "users.properties"), fmt.Sprintf("%s=%s\n%s=%[2]s\n", BackendUser, RolePassword, ConsumerUser))
		write(t, filepath.Join(a.dir, "roles.properties"), fmt.Sprintf("%s=%[1]s\n%s=%[2]s\n", BackendUser, ConsumerUser))
	}
	a.args = append(javaOptions(jarsIn(t, "artemis-"+artemisVersion, "artemis-server-"+artemisVersion+".jar")), "org.apache.activemq.artemis.core.server.embedded.Main", a.dir)
	a.args = append([]string{"-Djava.security.auth.login.config=" + filepath.Join(a.dir, "login.config")}, a.args...)
	a.ready = a.answers
	a.Start()
	return a
}

// Without max-disk-usage -1, Artemis takes nothing once less than a tenth of the machine's disk is free, whoever fills it.
const artemisSettings = `<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
<security-enabled>%v</security-enabled>
<persistence-enabled>true</persistence-enabled>
<journal-type>NIO</journal-type>
<journal-file-size>1M</journal-file-size>
<journal-buffer-timeout>0</journal-buffer-timeout>
<max-disk-usage>-1</max-disk-usage>
<critical-analyzer>false</critical-analyzer>
<acceptors><acceptor name="amqp">tcp://%s:%d?protocols=AMQP;securityDomain=drainmark</acceptor></acceptors>
<security-settings>%s</security-settings>
<address-settings>
<address-setting match="#"><max-delivery-attempts>-1</max-delivery-attempts><redelivery-delay>0</redelivery-delay>
<auto-delete-queues>false</auto-delete-queues><auto-delete-addresses>false</auto-delete-addresses></address-setting>
%s
</address-settings>
</core></configuration>
`

const artemisLogin = `drainmark { org.apache.activemq.artemis.spi.core.security.jaas.PropertiesLoginModule required
	org.apache.activemq.jaas.properties.user="users.properties" org.apache.activemq.jaas.properties.role="roles.properties"; };
`

// URL is where clients connect to.
func (a *Artemis) URL() string { return fmt.Sprintf("amqp10://%s:%d", Host, a.Port) }

func (a *Artemis) answers(ctx context.Context) error { return answersAMQP10(ctx, a.Port, a.secured) }

// answersAMQP10 says whether a client gets a session: anybody, or a backend.
func answersAMQP10(ctx context.Context, port int, secured bool) error {
	login := amqp.SASLTypeAnonymous()
	if secured {
		login = amqp.SASLTypePlain(BackendUser, RolePassword)
	}
	conn, err := amqp.Dial(ctx, fmt.Sprintf("amqp://%s:%d", Host, port), &amqp.ConnOptions{SASLType: login})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.NewSession(ctx, nil)
	return err
}
