{{/* What the schema cannot say: values that do not go together. */}}
{{- define "drainmark.validate" -}}
{{- $trial := .Values.trial -}}
{{- if eq .Values.mode "up" -}}
{{- if or $trial.rabbitmq.enabled $trial.nats.enabled $trial.redis.enabled -}}
{{- fail "mode up has its own broker and store: it cannot be combined with trial.rabbitmq, trial.nats or trial.redis" -}}
{{- end -}}
{{- if .Values.keda.enabled -}}
{{- fail "keda.enabled scales the consumers of mode roles: mode up has none" -}}
{{- end -}}
{{- else -}}
{{- if and $trial.rabbitmq.enabled $trial.nats.enabled -}}
{{- fail "trial.rabbitmq.enabled and trial.nats.enabled: a deployment has one broker" -}}
{{- end -}}
{{- $own := and (get .Values.broker "backend").secretName (get .Values.broker "consumer").secretName -}}
{{- if and (include "drainmark.trialBroker" .) (or .Values.broker.secretName .Values.broker.backend.secretName .Values.broker.consumer.secretName) -}}
{{- fail "broker.secretName and a trial broker: a deployment has one broker" -}}
{{- end -}}
{{- if not (or (include "drainmark.trialBroker" .) .Values.broker.secretName $own) -}}
{{- fail "broker.secretName must name a Secret that has the broker's URL, such as amqp://USER:PASSWORD@HOST/VHOST (or set trial.rabbitmq.enabled or trial.nats.enabled, to try it out)" -}}
{{- end -}}
{{- if and $trial.redis.enabled (or .Values.store.secretName .Values.store.replica.secretName) -}}
{{- fail "store.secretName and trial.redis.enabled: a deployment has one store" -}}
{{- end -}}
{{- if not (or $trial.redis.enabled .Values.store.secretName) -}}
{{- fail "store.secretName must name a Secret that has the URL of the store's master, such as postgres://USER:PASSWORD@HOST/DATABASE or redis://USER:PASSWORD@HOST (or set trial.redis.enabled, to try it out)" -}}
{{- end -}}
{{- if and $trial.redis.enabled (or .Values.effects .Values.effectsConfigMap) -}}
{{- fail "effects and trial.redis.enabled: a store of Redis applies none, PostgreSQL does (and mode up)" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.frontend.secretName (not .Values.tls.secretName) -}}
{{- fail "tls.frontend.secretName is besides tls.secretName, which the other roles serve with" -}}
{{- end -}}
{{- if and (or (ne .Values.tls.clientAuth "none") (ne .Values.tls.frontend.clientAuth "none")) (not .Values.tls.secretName) -}}
{{- fail "tls.clientAuth and tls.frontend.clientAuth need tls.secretName: there is no TLS without it" -}}
{{- end -}}
{{- if and .Values.effects .Values.effectsConfigMap -}}
{{- fail "effects and effectsConfigMap: the file of effects is one of the two" -}}
{{- end -}}
{{- with include "drainmark.text" .Values.effects -}}
{{- $file := fromYaml . -}}
{{- if not (kindIs "slice" $file.effects) -}}
{{- fail (printf "effects must be the text of a file with a list of effects, as --set-file effects=FILE gives it: %s" ($file.Error | default "it has none")) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.retention .Values.retentionConfigMap -}}
{{- fail "retention and retentionConfigMap: the file of rules is one of the two" -}}
{{- end -}}
{{- with include "drainmark.text" .Values.retention -}}
{{- $file := fromYaml . -}}
{{- if not (kindIs "slice" $file.retention) -}}
{{- fail (printf "retention must be the text of a file with a list of rules, as --set-file retention=FILE gives it: %s" ($file.Error | default "it has none")) -}}
{{- end -}}
{{- end -}}
{{- include "drainmark.validateAccess" . -}}
{{- range $role := list "frontend" "backend" "up" -}}
{{- with (index $.Values $role).service -}}
{{- if and .nodePort (eq .type "ClusterIP") -}}
{{- fail (printf "%s.service.nodePort: a Service of type ClusterIP has none" $role) -}}
{{- end -}}
{{- if and (or .loadBalancerClass .loadBalancerSourceRanges) (ne .type "LoadBalancer") -}}
{{- fail (printf "%s.service.loadBalancerClass and loadBalancerSourceRanges are for Services of type LoadBalancer" $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $role := list "frontend" "backend" -}}
{{- $of := index $.Values $role -}}
{{- if and (eq $.Values.mode "roles") $of.autoscaling.enabled -}}
{{- if gt (int $of.autoscaling.minReplicas) (int $of.autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling: minReplicas is above maxReplicas" $role) -}}
{{- end -}}
{{- if not (get (($of.resources | default dict).requests | default dict) "cpu") -}}
{{- fail (printf "%s.autoscaling goes by the request for processors: %s.resources.requests.cpu is not set" $role $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.keda -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail "keda: minReplicas is above maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- range $of, $size := dict "up.persistence.size" .Values.up.persistence.size "trial.persistence.size" $trial.persistence.size -}}
{{- include "drainmark.atLeast" (dict "of" $of "is" $size "least" "64Mi") -}}
{{- end -}}
{{- range $of, $owner := dict "frontend" .Values.frontend "backend" .Values.backend "consumer" .Values.consumer "up" .Values.up "init" .Values.init
      "tests" .Values.tests "trial.rabbitmq" $trial.rabbitmq "trial.nats" $trial.nats "trial.redis" $trial.redis -}}
{{- with (($owner.resources | default dict).limits | default dict).memory -}}
{{- include "drainmark.atLeast" (dict "of" (printf "%s.resources.limits.memory" $of) "is" . "least" "16Mi") -}}
{{- end -}}
{{- end -}}
{{- $alerts := list -}}
{{- range (index (.Files.Get "files/alerts.yaml" | fromYaml).groups 0).rules }}{{ $alerts = append $alerts .alert }}{{ end -}}
{{- range .Values.prometheusRule.disabled -}}
{{- if not (has . $alerts) -}}
{{- fail (printf "prometheusRule.disabled: there is no alert %s: there are %s" . (join ", " $alerts)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs must name the Gateway that the route is attached to" -}}
{{- end -}}
{{- end -}}

{{/* Somebody has said who may do what, once, and KEDA may ask what it has to. */}}
{{- define "drainmark.validateAccess" -}}
{{- $chosen := list -}}
{{- range $way := list "rules" "existingConfigMap" "existingSecret" "insecure" -}}
{{- if index $.Values.access $way }}{{ $chosen = append $chosen (printf "access.%s" $way) }}{{ end -}}
{{- end -}}
{{- if not $chosen -}}
{{- fail "access: nobody has said who may do what: --set-file access.rules=FILE gives a file of principals, for which \"drainmark token new\" makes tokens; access.existingConfigMap or access.existingSecret names one that has it as access.yaml; access.insecure=true lets everybody do everything who reaches the API" -}}
{{- end -}}
{{- if gt (len $chosen) 1 -}}
{{- fail (printf "%s: who may do what is said in one place" (join " and " $chosen)) -}}
{{- end -}}
{{- with include "drainmark.text" .Values.access.rules -}}
{{- if regexMatch "dmk_[-_A-Za-z0-9]{20}" . -}}
{{- fail "access.rules has a token in it, which would be readable in a ConfigMap: it must have hashes of tokens alone, what \"drainmark token new\" prints from \"principals:\" on" -}}
{{- end -}}
{{- $file := fromYaml . -}}
{{- if not (or (kindIs "slice" $file.principals) (kindIs "slice" $file.issuers) (kindIs "slice" $file.anonymous)) -}}
{{- fail (printf "access.rules must be the text of a file with principals, as --set-file access.rules=FILE gives it: %s" ($file.Error | default "it has none")) -}}
{{- end -}}
{{- $anonymous := $file.anonymous | default list -}}
{{- if and $.Values.keda.enabled (not $.Values.keda.token.secretName) (not (or (has "status" $anonymous) (has "admin" $anonymous))) -}}
{{- fail "keda.enabled has KEDA ask the backends how many consumers are wanted: keda.token.secretName must name a Secret with a token of a principal that may \"status\", or access.rules let anonymous do that" -}}
{{- end -}}
{{- end -}}
{{- end -}}
