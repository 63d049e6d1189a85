# "make help" lists what there is. Everything runs on a machine that has Go; the tests
# install what they need besides (Debian).

GO         ?= go
# staticcheck is run, not installed: the version is fixed here.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
# A number of inputs, not a time: a fuzz run that ends by time can fail by itself ("context deadline exceeded",
# https://go.dev/issue/75804).
FUZZTIME   ?= 3000x
FUZZAPITIME ?= 10m
SCHEDULES  ?= 2000
LASTS      ?= 30m
BROKER     ?= rabbitmq
STORE      ?= redis
PLANS      ?= local,harsh
DISKS      ?= yes
SECURE     ?= yes
RATE       ?= 200

# The image's name, its tag (the version if empty) and its platforms.
IMAGE      ?= localhost/drainmark
TAG        ?=
PLATFORMS  ?= linux/amd64,linux/arm64

PUSH       ?=
ENGINE     ?=
VERSION    ?=
RECORD     ?=

# It is run, not installed, like staticcheck. deploy/release/go.mod has the same version.
GORELEASER  = github.com/goreleaser/goreleaser/v2@v2.15.0

# Debian's, which is unpacked, not installed. Elsewhere, set PROMTOOL.
PROMETHEUS  = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/drainmark/prometheus
PROMTOOL   ?= $(PROMETHEUS)/usr/bin/promtool

.PHONY: help clients run build image image-test compose-test tracing-test cloudevents-test notices vulnerabilities release-files release-test release-check quick test e2e needs chart check fmt vet lint fuzz cluster rabbitcluster rabbitmqs kafkacluster rolling campaign kubernetes screenshots bench peers peers-test testcontainers simulate clean fuzz-api amqp10 alerts-test alerts-record typescript-client openapi-test python-client

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: ## run everything in one process (ctrl-C ends it)
	$(GO) run ./cmd/drainmark up

build: ## build the static binary bin/drainmark
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/drainmark ./cmd/drainmark

# The tool has a module of its own, so that nobody who imports Drainmark gets its libraries.
image: ## make the container image, as dist/drainmark-…-oci.tar and in docker, podman or buildah (TAG, IMAGE, PLATFORMS, PUSH)
	cd deploy/image && $(GO) run . -name '$(IMAGE)' -tag '$(TAG)' -platforms '$(PLATFORMS)' -push='$(if $(filter yes,$(PUSH)),true,false)'

# Without a container engine, as root on Linux: the image is unpacked and run in namespaces.
image-test: ## make the image twice, compare, look into it, and run it as an orchestrator would
	cd deploy/image && $(GO) vet ./... && $(GO) test -count=1 -timeout 20m ./...

compose-test: ## check the Compose files by the specification of Compose
	cd deploy/compose && $(GO) vet ./... && $(GO) test -count=1 ./...

# The modules that are linked, on all platforms of a release. A test of that package fails if it has not been run.
notices: ## write THIRD_PARTY_NOTICES, the licenses of everything in the program
	$(GO) run ./internal/notices

# The tool's version is in the script, which says at length what it could not reach.
vulnerabilities: ## look for known vulnerabilities in what the program calls (GOVULNDB)
	@GO='$(GO)' scripts/vulnerabilities

release-files:
	@GO='$(GO)' scripts/release-files '$(VERSION)'

release-test: ## check the configuration of releases, and make the packages (deb, rpm)
	cd deploy/release && $(GO) vet ./... && $(GO) test -count=1 ./...

release-check: ## have goreleaser check its configuration, and make a release that is not published
	$(GO) run $(GORELEASER) check
	$(GO) run $(GORELEASER) release --snapshot --clean --skip=sign,publish,sbom

# What needs no server, no browser and no C compiler. The rest is in "make test".
quick: fmt ## run vet and the tests that run anywhere, in two minutes or so
	$(GO) vet ./...
	$(GO) test $$($(GO) list ./... | grep -Ev '/(app|rabbitmq|kafka|amqp10|redis|postgres|servers|e2e|naive|planted|simulation|effecttest|shop)$$|/cmd/')

# The race detector waits for a second at the end of each process, of which the tests start hundreds, so that goroutines that
# are left can be seen to race. None is left here: goleak looks for them.
test e2e: export GORACE = atexit_sleep_ms=50

# Tests of how much memory a process takes, and of the checker of the protocol by servers that are wrong on purpose: the race
# detector makes them five times as slow, and has seen what they use in other tests.
PLAIN_TESTS = TestMemoryOf(Answers|EventStreams|Connections)$$|TestNobodyTakesAll$$|TestProtocolFindsWhatIsBroken$$

# The race detector makes a schedule of the simulation some five times as slow: it sees the first 150 of 1,000.
# "make check" vets everything with more checks, and without the race detector's packages being made for it. What the
# planted faults are planted in has been seen by the detector before.
test: needs ## run all tests with the race detector, and each fuzz target for a while
	$(GO) test -race -vet=off -p 2 -timeout 20m -skip '^($(PLAIN_TESTS))' $$($(GO) list ./... | grep -v /test/e2e)
	$(GO) test -vet=off -run TestSchedules ./test/simulation -seed 151 -schedules 850
	$(GO) test -vet=off -tags planted -run 'Planted|UnknownFault|^($(PLAIN_TESTS))' ./app
	$(MAKE) --no-print-directory compose-test
	$(MAKE) --no-print-directory chart
	$(MAKE) --no-print-directory alerts-test
	$(MAKE) --no-print-directory tracing-test
	$(MAKE) --no-print-directory cloudevents-test
	$(MAKE) --no-print-directory e2e
	$(MAKE) --no-print-directory fuzz

# Whole deployments, with all their servers: nothing else must run beside them on a small machine.
e2e: needs ## run the tests of whole deployments of real processes
	$(GO) test -race -vet=off -timeout 20m -parallel 3 ./test/e2e/...

# Not a part of "make test": the tools come from npm and PyPI. Their versions are in the script.
openapi-test: ## judge the OpenAPI document by Redocly's and Spectral's rules, and a deployment by it with Schemathesis (SEED, EXAMPLES)
	@GO='$(GO)' scripts/openapi-test

clients: typescript-client python-client ## check and test both clients in other languages

# Node, npm and PyPI are not a part of "make test". A test in Go says whether what frontends serve is of the sources.
typescript-client: ## check the TypeScript client, and test it and its examples on real deployments
	@GO='$(GO)' scripts/typescript-client

python-client: ## check the Python client, and test it against real deployments
	@GO='$(GO)' scripts/python-client

# A module of its own, because of the collector's packages.
tracing-test: ## follow a trace through three processes to the receiver of an OpenTelemetry collector
	cd test/tracing && $(GO) vet . && $(GO) test -count=1 -timeout 10m .

# A module of its own, because of the SDK's packages.
cloudevents-test: ## send CloudEvents with the official SDK to a real drainmark, and read them back with it
	cd test/cloudevents && $(GO) vet . && $(GO) test -count=1 -timeout 10m .

# A C compiler for the race detector, and the servers that the tests start.
needs:
	@GO='$(GO)' scripts/install-servers

# A module of its own: whoever imports Drainmark gets none of Helm's and Kubernetes' packages.
chart: ## check the Helm chart: rendering, types of Kubernetes, schema, PodSecurity
	cd deploy/helm/test && $(GO) vet . && $(GO) test .

$(PROMETHEUS)/usr/bin/promtool:
	scripts/unpack-prometheus '$(PROMETHEUS)'

alerts-test: $(PROMTOOL) ## test the alerts on recordings of real failures
	$(PROMTOOL) check rules deploy/monitoring/alerts.yaml
	$(PROMTOOL) test rules deploy/monitoring/first-seen.yaml deploy/monitoring/recorded/*.yaml

# Three at once: more would be late to answer, and be recorded so.
alerts-record: needs ## make the failures happen, in some 20 minutes, and record the metrics for alerts-test (RECORD: only those that match)
	$(GO) test -tags alerts -run '^TestRecord$$/$(RECORD)' -count=1 -timeout 60m -parallel 3 -v ./test/e2e -record '$(CURDIR)/deploy/monitoring/recorded'

check: fmt vet lint ## check format, vet, lint and modules

fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt needed:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...
	$(GO) vet -tags amqp10 ./broker/amqp10 ./test/e2e
	$(GO) vet -tags cluster ./broker/jetstream ./broker/rabbitmq ./broker/kafka
	$(GO) vet -tags campaign,screenshots,alerts ./test/e2e
	$(GO) vet -tags planted ./app ./cmd/drainmark
	$(GO) mod verify

# The disabled checks: ST1000 (a package comment in every file set: ours are where they say something), and
# ST1003 and ST1016 (initialisms and receiver names, which generated-looking rules get wrong for names like URL flags).
lint:
	$(GO) run $(STATICCHECK) -checks 'all,-ST1000,-ST1003,-ST1016' ./...

fuzz: ## run each fuzz target for FUZZTIME (3000x: so many inputs; 10m for a time)
	@GO='$(GO)' scripts/fuzz $(FUZZTIME)

fuzz-api: ## send requests of every kind, by principals with any grants, for FUZZAPITIME (10m), of the seed SEED
	$(GO) test -run '^TestAPIFuzz$$' -count=1 -timeout 0 -v ./app -api-fuzz $(FUZZAPITIME) -api-seed $${SEED:-$$(date +%s)}

simulate: ## play SCHEDULES schedules of the simulation (2000), and look for all planted faults
	$(GO) test ./test/simulation -run 'TestSchedules|TestFindsBugs' -rare -timeout 0 -schedules $(SCHEDULES) -seed $${SEED:-1}

cluster: ## run the tests on a NATS cluster of three: some minutes, and more than two cores can do at once
	$(GO) test -tags cluster -run Cluster -timeout 30m -v ./broker/jetstream

rabbitcluster: needs ## run the tests on RabbitMQ clusters of three, of the machine's version and of 4: some minutes, and more than two cores can do at once
	$(GO) test -tags cluster -run TestCluster -timeout 30m -v ./broker/rabbitmq

# make test leaves out the newest, which is of a release of Debian that is being made and changes under us.
rabbitmqs: ## run the tests of the RabbitMQ adapter on the machine's RabbitMQ, Debian 13's and the newest
	@GO='$(GO)' scripts/install-servers && RABBITMQ4_SUITE=forky GO='$(GO)' scripts/install-servers
	$(GO) test -race -vet=off -count=1 -timeout 14m -v -run '^TestRabbitMQ4?$$' ./broker/rabbitmq
	RABBITMQ4_SUITE=forky $(GO) test -race -vet=off -count=1 -timeout 14m -v -run '^TestRabbitMQ4$$' ./broker/rabbitmq

kafkacluster: ## run the tests on a Kafka cluster of three: some minutes, and more than two cores can do at once
	$(GO) test -tags cluster -run TestCluster -timeout 30m -v ./broker/kafka

# LASTS, BROKER (rabbitmq, rabbitmq4, nats, kafka, artemis, activemq, rabbitmq4-amqp10, or rabbitmq4cluster or kafka3 with three nodes), STORE (redis or postgres), RATE (messages a second), PLANS (local, harsh), DISKS (no: none is filled up, which
# takes root), SECURE (no: without TLS, and everybody may do everything) and REPORT (a folder that does not exist yet) can be
# set.
campaign: needs ## break a whole deployment on plans for LASTS (30m) while verify checks it
	$(GO) test -tags campaign -run '^TestCampaign$$' -count=1 -timeout 0 -v ./test/e2e -campaign $(LASTS) \
		-campaign-broker $(BROKER) -campaign-store $(STORE) -campaign-rate $(RATE) -campaign-dir "$(REPORT)" \
		-campaign-plans $(PLANS) -campaign-disks=$(if $(filter no,$(DISKS)),false,true) \
		-campaign-secure=$(if $(filter no,$(SECURE)),false,true)

# The default run of the tests has the adapter on Artemis, and the rights and logins of RabbitMQ 4.
amqp10: needs ## run the tests of AMQP 1.0 that make test leaves out: ActiveMQ, RabbitMQ 3's plugin, deployments on all servers
	$(GO) test -race -tags amqp10 -run 'TestActiveMQ|TestRabbitMQ' -count=1 -timeout 20m -v ./broker/amqp10
	$(GO) test -tags amqp10 -run TestAMQP10 -count=1 -timeout 20m -v ./test/e2e

rolling: ## restart each role in turn, eight times, under 100 clients, and count what they do not like
	$(GO) test -race -run 'Rolling|TestRestart' -restarts 8 -crowd 100 -count=1 -timeout 30m -v ./app

# The settings are in the script's head: LOAD, IMAGE, BROKER, LASTS, RATE, PREVIOUS and more, from the environment.
kubernetes: ## prove the chart on the cluster of the current kubeconfig, while it is being broken (LOAD, BROKER, LASTS)
	@scripts/kubernetes

screenshots: needs $(PROMETHEUS)/usr/bin/promtool ## take the pictures of the web pages and of the dashboard in docs/screenshots
	$(GO) test -tags screenshots -run '^Test(Dashboard)?Screenshots$$' -count=1 ./test/e2e -screenshots '$(CURDIR)/docs/screenshots'

bench: ## print the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./...

# A module of its own: whoever imports Drainmark gets none of the peers' packages. To compile those takes half a minute, so
# "make check" leaves them out.
peers: needs ## compare effects with Watermill, River and DBOS Transact on one PostgreSQL server, in some ten minutes
	cd bench/peers && $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m .

# A module of its own as well. Without ENGINE=yes no container is run: the real program runs as one would be told to.
testcontainers: ## check the module for Testcontainers (ENGINE=yes: also in a container, of localhost/drainmark:latest)
	cd testcontainers/drainmark && $(GO) vet -tags engine . && $(GO) test -count=1 $(if $(filter yes,$(ENGINE)),-tags engine) .

peers-test: needs ## vet that comparison, and check that each of those applies 1,000 records once
	cd bench/peers && $(GO) vet . && $(GO) test -count=1 -timeout 10m .

clean: ## remove what building made
	rm -rf bin dist
